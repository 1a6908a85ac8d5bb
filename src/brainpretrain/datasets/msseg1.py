"""MSSEG 2016, training release: five sequences, registered to the FLAIR, of 15 patients."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"DP": "PDw", "FLAIR": "FLAIR", "GADO": "T1ce", "T1": "T1w", "T2": "T2w"}
PATIENT = "Training/Center_01/Patient_01"

DATASET = Dataset(
    name="msseg1",
    title="MSSEG 2016 (MSSEG-1)",
    access="place",
    page="https://shanoir.irisa.fr/shanoir-ng/account/study/209/account-request",
    licence="data use agreement of the MSSEG challenge",
    licence_url="https://portal.fli-iam.irisa.fr/msseg-challenge/",
    citation="Commowick et al., NeuroImage 2021, doi:10.1016/j.neuroimage.2021.118589",
    redistribution=False,
    archives=(Archive(name="MSSEG-Training.zip"),),
    layouts=(
        Layout(
            name="shanoir",
            patterns=(
                Pattern(
                    image=(
                        r"(?P<folder>[Tt]raining)/(?P<subject>(?P<site>Center_\d+)/Patient_\d+)/"
                        r"Preprocessed_Data/(?P<sequence>[A-Z0-9]+)_preprocessed"
                    ),
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}{folder}/{subject}/Masks/Consensus",
                    required=tuple(SEQUENCES.values()),
                ),
            ),
            examples=(
                *(f"{PATIENT}/Preprocessed_Data/{name}_preprocessed.nii.gz" for name in SEQUENCES),
                f"{PATIENT}/Masks/Consensus.nii.gz",
            ),
            unused=(r"(?:.+/)?(?:Raw_Data/[^/]+|Masks/ManualSegmentation_\d+\.nii\.gz)",),
        ),
    ),
    labels={1: "lesion"},
    label_sequences=tuple(SEQUENCES.values()),
    expected={"subjects": 15, "volumes": 75},
    brains45k={"subjects": 15, "sessions": 15, "volumes": 75},
    n_shards=1,
    whole=True,
)
