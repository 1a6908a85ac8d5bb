"""IXI: healthy adults from three London hospitals; as released, or at 2 mm with automatic DLMUSE labels."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"T1": "T1w", "T2": "T2w", "PD": "PDw"}
SUBJECT = r"(?P<subject>IXI\d+-(?P<site>HH|Guys|IOP)-\d+)"
DOWNLOADS = "http://biomedic.doc.ic.ac.uk/brain-development/downloads/IXI"

# DLMUSE label values with their names in the MUSE dictionary, which lacks 46 and 69.
MIDLINE = {
    1: "CortCSF",
    4: "3rdVentricle",
    11: "4thVentricle",
    35: "BrainStem",
    46: "CSF",
    69: "OpticChiasm",
    71: "CerebellarVermalLobules_1to5",
    72: "CerebellarVermalLobules_6to7",
    73: "CerebellarVermalLobules_8to10",
    95: "CorpCall",
}
# Value on the right, value on the left.
PAIRED = (
    (23, 30, "AccumbensArea"),
    (31, 32, "Amygdala"),
    (36, 37, "Caudate"),
    (38, 39, "CerebellumExterior"),
    (40, 41, "Cerebellum_WM"),
    (47, 48, "Hippocampus"),
    (49, 50, "InfLatVentricle"),
    (51, 52, "LateralVentricle"),
    (55, 56, "Pallidum"),
    (57, 58, "Putamen"),
    (59, 60, "ThalamusProper"),
    (61, 62, "VentralDC"),
    (76, 75, "BasalForebrain"),
    (81, 82, "Frontal_WM"),
    (83, 84, "Occipital_WM"),
    (85, 86, "Parietal_WM"),
    (87, 88, "Temporal_WM"),
    (89, 90, "Fornix"),
    (91, 92, "AnteriorLimbInternalCapsule"),
    (93, 94, "PosteriorLimbInternalCapsule"),
)
# Value on the right; the left is the next one.
CORTEX = {
    100: "AnteriorCingulateGyrus",
    102: "AnteriorInsula",
    104: "AnteriorOrbitalGyrus",
    106: "AngularGyrus",
    108: "CalcarineCortex",
    112: "CentralOperculum",
    114: "Cuneus",
    116: "EntorhinalArea",
    118: "FrontalOperculum",
    120: "FrontalPole",
    122: "FusiformGyrus",
    124: "GyrusRectus",
    128: "InferiorOccipitalGyrus",
    132: "InferiorTemporalGyrus",
    134: "LingualGyrus",
    136: "LateralOrbitalGyrus",
    138: "MiddleCingulateGyrus",
    140: "MedialFrontalCortex",
    142: "MiddleFrontalGyrus",
    144: "MiddleOccipitalGyrus",
    146: "MedialOrbitalGyrus",
    148: "PostcentralGyrusMedialSegment",
    150: "PrecentralGyrusMedialSegment",
    152: "SuperiorFrontalGyrusMedialSegment",
    154: "MiddleTemporalGyrus",
    156: "OccipitalPole",
    160: "OccipitalFusiformGyrus",
    162: "OpercularPartInferiorFrontalGyrus",
    164: "OrbitalPartInferiorFrontalGyrus",
    166: "PosteriorCingulateGyrus",
    168: "Precuneus",
    170: "ParahippocampalGyrus",
    172: "PosteriorInsula",
    174: "ParietalOperculum",
    176: "PostcentralGyrus",
    178: "PosteriorOrbitalGyrus",
    180: "PlanumPolare",
    182: "PrecentralGyrus",
    184: "PlanumTemporale",
    186: "SubcallosalArea",
    190: "SuperiorFrontalGyrus",
    192: "SupplementaryMotorCortex",
    194: "SupramarginalGyrus",
    196: "SuperiorOccipitalGyrus",
    198: "SuperiorParietalLobule",
    200: "SuperiorTemporalGyrus",
    202: "TemporalPole",
    204: "TriangularPartInferiorFrontalGyrus",
    206: "TransverseTemporalGyrus",
}


def _labels() -> dict[int, str]:
    sides = [*PAIRED, *((right, right + 1, name) for right, name in CORTEX.items())]
    right = {value: f"{name}_R" for value, _, name in sides}
    left = {value: f"{name}_L" for _, value, name in sides}
    return dict(sorted((MIDLINE | right | left).items()))


DATASET = Dataset(
    name="ixi",
    title="IXI (Information eXtraction from Images)",
    access="auto",
    page="https://brain-development.org/ixi-dataset/",
    licence="CC BY-SA 3.0 (images); SBIA software and data licence (DLMUSE label maps)",
    licence_url="https://creativecommons.org/licenses/by-sa/3.0/",
    citation="IXI dataset, https://brain-development.org/ixi-dataset/ (EPSRC GR/S21533/02); "
    "label maps at 2 mm: CBICA, NiChart_Project",
    redistribution=True,
    archives=(
        Archive(name="IXI-T1.tar", url=f"{DOWNLOADS}/IXI-T1.tar", md5="34901a0593b41dd19c1a1f746eac2d58"),
        Archive(name="IXI-T2.tar", url=f"{DOWNLOADS}/IXI-T2.tar", md5="e3140d78730ecdd32ba92da48c0a9aaa"),
        Archive(name="IXI-PD.tar", url=f"{DOWNLOADS}/IXI-PD.tar", md5="88ecd9d1fa33cb4a2278183b42ffd749"),
    ),
    layouts=(
        Layout(
            name="2 mm with DLMUSE",
            patterns=(Pattern(image=SUBJECT + "/T1", subset="train", sequence="T1w", label="{top}{subject}/dlmuse"),),
            examples=("IXI012-HH-1211/T1.nii.gz", "IXI012-HH-1211/dlmuse.nii.gz"),
        ),
        Layout(
            name="release",
            patterns=(Pattern(image=SUBJECT + "-(?P<sequence>[A-Z0-9]+)", subset="unlabelled", sequence=SEQUENCES),),
            examples=(
                "IXI-T1/IXI012-HH-1211-T1.nii.gz",
                "IXI-T2/IXI012-HH-1211-T2.nii.gz",
                "IXI-PD/IXI012-HH-1211-PD.nii.gz",
            ),
        ),
    ),
    labels=_labels(),
    label_sequences=("T1w",),
    # 581 T1w, 578 T2w and 578 PDw in the release.
    expected={"volumes": 1737},
    n_shards=7,
)
