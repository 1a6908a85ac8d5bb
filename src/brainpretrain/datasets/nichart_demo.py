"""NiChart's demo data: T1w and FLAIR of the heads of 23 people of 69 to 96 years at 2 mm, with automatic DLMUSE labels.

The labels are on the grid of the T1w; the FLAIR has another grid, and its lesion masks are the labels of `nichart_demo_wmh`.
Whom they show is not stated; they are not IXI, by their ages. DLMUSE is trained on atlases that may include people of
`oasis_miccai2012`, which is not known here. Every voxel within the skull has a value, so `dlmuse > 0` is an intracranial mask.
Two layouts are read: a folder for each subject (16 were at hand), and the folders of the repository, whose other results
(`nichart_ravens_out` and others) are not used.
"""

from brainpretrain.datasets import ixi
from brainpretrain.datasets.base import Dataset, Layout, Pattern

SEQUENCES = {"T1": "T1w", "FLAIR": "FLAIR"}
RELEASE = "sample_datasets/demo_dataset"
UNUSED = (r"(?:.+/)?nichart_ravens_out/.+",)

DATASET = Dataset(
    name="nichart_demo",
    title="NiChart demo data, brain structures",
    access="place",
    page="https://github.com/CBICA/NiChart_Project",
    licence="SBIA software and data licence",
    licence_url="https://www.med.upenn.edu/sbia/software-agreement.html",
    citation="CBICA, NiChart_Project, sample data; labels by DLMUSE",
    redistribution=True,
    archives=(),
    layouts=(
        Layout(
            name="a folder for each subject",
            patterns=(
                Pattern(image=r"(?P<subject>Subj\d+)/T1", subset="train", sequence="T1w", label="{top}{subject}/dlmuse"),
                Pattern(image=r"(?P<subject>Subj\d+)/FLAIR", subset="train", sequence="FLAIR"),
            ),
            examples=("Subj1/T1.nii.gz", "Subj1/FLAIR.nii.gz", "Subj1/dlmuse.nii.gz"),
            unused=(*UNUSED, r"(?:.+/)?Subj\d+/dlwmls\.nii\.gz"),
        ),
        Layout(
            name="repository",
            patterns=(
                Pattern(
                    image=r"t1/(?P<subject>Subj\d+)_T1",
                    subset="train",
                    sequence="T1w",
                    label="{top}dlmuse_seg/{subject}_T1_DLMUSE",
                ),
                Pattern(image=r"fl/(?P<subject>Subj\d+)_FL", subset="train", sequence="FLAIR"),
            ),
            examples=(
                f"{RELEASE}/t1/Subj1_T1.nii.gz",
                f"{RELEASE}/fl/Subj1_FL.nii.gz",
                f"{RELEASE}/dlmuse_seg/Subj1_T1_DLMUSE.nii.gz",
            ),
            unused=(*UNUSED, r"(?:.+/)?Subj\d+_FL_DLWMLS\.nii\.gz"),
        ),
    ),
    labels=ixi.DATASET.labels,
    label_sequences=("T1w",),
    expected={"subjects": 23, "volumes": 46},
    n_shards=1,
    aliases={"Subj9": "Subj8", "Subj10": "Subj8", "Subj16": "Subj15"},  # found by the overlap audit (docs/cohorts.md)
)
