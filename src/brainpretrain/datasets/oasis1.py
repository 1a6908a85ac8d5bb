"""OASIS-1 as neurite-OASIS: T1w of 414 subjects with FreeSurfer labels of 35 structures.

Each session has two volumes on one grid, each a subset of its own: `orig` with skull and `norm` without. A corpus may take
both, a task takes one of them (`subsets: [orig]`). The label is `seg35`; the label `seg4` (4 tissues) belongs to `oasis1_seg4`,
the tissue classes that the OASIS project itself released belong to `oasis1_fsl`, and the files `aligned_*` (a common grid) are
not used. The names of the labels follow FreeSurfer's order without CSF, in which 19 and 35 are the choroid plexus, as in public
code. They have not been compared with the list of the release, `seg35_labels.txt`; do so before you name classes. The 20
subjects of OASIS-TRT-20 are also in OASIS-1; the overlap audit knows their names (`persons`).
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

VERSIONS = ("orig", "norm")
SESSION = "OASIS_OAS1_0001_MR1"
SIDED = (
    "Cerebral-White-Matter",
    "Cerebral-Cortex",
    "Lateral-Ventricle",
    "Inf-Lat-Ventricle",
    "Cerebellum-White-Matter",
    "Cerebellum-Cortex",
    "Thalamus",
    "Caudate",
    "Putamen",
    "Pallidum",
)
MIDLINE = ("3rd-Ventricle", "4th-Ventricle", "Brain-Stem")
SIDED_TOO = ("Hippocampus", "Amygdala", "Accumbens", "Ventral-DC", "Vessel", "Choroid-Plexus")


def person(subject: str) -> str:
    """OAS1_0001 for OASIS_OAS1_0001."""
    return subject.removeprefix("OASIS_")


def _labels() -> dict[int, str]:
    left = [f"Left-{name}" for name in SIDED] + list(MIDLINE) + [f"Left-{name}" for name in SIDED_TOO]
    right = [f"Right-{name}" for name in (*SIDED, *SIDED_TOO)]
    return dict(enumerate(left + right, start=1))


DATASET = Dataset(
    name="oasis1",
    title="OASIS-1 (neurite-OASIS)",
    access="auto",
    page="https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md",
    licence="OASIS data use agreement",
    licence_url="https://sites.wustl.edu/oasisbrains/home/access/",
    citation="Marcus et al. (OASIS-1), J Cogn Neurosci 2007, doi:10.1162/jocn.2007.19.9.1498; "
    "Hoopes et al. (HyperMorph), MELBA 2022, doi:10.59275/j.melba.2022-74f1",
    redistribution=False,
    archives=(
        Archive(
            name="neurite-oasis.v1.0.tar",
            url="https://surfer.nmr.mgh.harvard.edu/ftp/data/neurite/data/neurite-oasis.v1.0.tar",
            sha256="86dd117dda17f736ade8a4088d7e98e066e1181950fe8b406f1a35f7fb743e78",
            md5="081392a8150ff99ab7a64a9ded377835",
        ),
    ),
    layouts=(
        Layout(
            name="neurite",
            patterns=tuple(
                Pattern(
                    image=rf"(?P<subject>OASIS_OAS1_\d{{4}})_(?P<session>MR\d)/(?P<run>{version})",
                    subset=version,
                    sequence="T1w",
                    label="{top}{subject}_{session}/seg35",
                )
                for version in VERSIONS
            ),
            examples=(f"{SESSION}/orig.nii.gz", f"{SESSION}/norm.nii.gz", f"{SESSION}/seg35.nii.gz"),
            unused=(r"(?:.+/)?OASIS_OAS1_\d{4}_MR\d/(?:aligned_.+|slice_.+|seg4\.nii\.gz)",),
        ),
    ),
    labels=_labels(),
    label_sequences=("T1w",),
    expected={"subjects": 414, "volumes": 828},
    persons=person,
    n_shards=4,
    versions=VERSIONS,
)
