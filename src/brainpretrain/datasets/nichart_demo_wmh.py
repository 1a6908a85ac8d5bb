"""NiChart's demo data with the white matter lesions of the FLAIR (DLWMLS, automatic) in place of the structures of the T1w.

The volumes are those of `nichart_demo`. To store the files only once, set the data root of `nichart_demo_wmh` to its folder. A
corpus with `nichart_demo` must leave out the subjects that are scored here; the overlap audit finds them by their images.
"""

from dataclasses import replace

from brainpretrain.datasets import nichart_demo
from brainpretrain.datasets.base import Layout, Pattern

_T1 = nichart_demo.DATASET.layouts

DATASET = replace(
    nichart_demo.DATASET,
    name="nichart_demo_wmh",
    title="NiChart demo data, white matter lesions",
    citation="CBICA, NiChart_Project, sample data; lesion masks by DLWMLS",
    layouts=(
        Layout(
            name="a folder for each subject",
            patterns=(
                Pattern(image=r"(?P<subject>Subj\d+)/FLAIR", subset="train", sequence="FLAIR", label="{top}{subject}/dlwmls"),
                replace(_T1[0].patterns[0], label=None),
            ),
            examples=("Subj1/T1.nii.gz", "Subj1/FLAIR.nii.gz", "Subj1/dlwmls.nii.gz"),
            unused=(*nichart_demo.UNUSED, r"(?:.+/)?Subj\d+/dlmuse\.nii\.gz"),
        ),
        Layout(
            name="repository",
            patterns=(
                Pattern(
                    image=r"fl/(?P<subject>Subj\d+)_FL",
                    subset="train",
                    sequence="FLAIR",
                    label="{top}nichart_dlwmls_out/DLWMLS_FLAIR/{subject}_FL_DLWMLS",
                ),
                replace(_T1[1].patterns[0], label=None),
            ),
            examples=(
                f"{nichart_demo.RELEASE}/t1/Subj1_T1.nii.gz",
                f"{nichart_demo.RELEASE}/fl/Subj1_FL.nii.gz",
                f"{nichart_demo.RELEASE}/nichart_dlwmls_out/DLWMLS_FLAIR/Subj1_FL_DLWMLS.nii.gz",
            ),
            unused=(*nichart_demo.UNUSED, r"(?:.+/)?Subj\d+_T1_DLMUSE\.nii\.gz"),
        ),
    ),
    labels={1: "lesion"},
    label_sequences=("FLAIR",),
)
