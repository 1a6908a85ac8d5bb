"""ATLAS R2.0: T1w after a stroke in MNI space (1 mm), 655 with lesion masks and 300 whose masks are withheld.

The archive is encrypted; the owners send the password after a request form. The subfolders of the 300 are not documented, so any
folders below `Testing/` are accepted.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

STEM = r"sub-r\d+s\d+_ses-[^_/]+_space-MNI152NLin2009aSym"
EXAMPLE = "ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym"

DATASET = Dataset(
    name="atlas_r2",
    title="ATLAS R2.0 (Anatomical Tracings of Lesions After Stroke)",
    access="credential",
    page="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
    licence="ATLAS R2.0 terms of use",
    licence_url="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
    citation="Liew et al., Sci Data 2022, doi:10.1038/s41597-022-01401-7",
    redistribution=False,
    archives=(
        Archive(
            name="ATLAS_R2.0_encrypted.tar.gz",
            url="https://fcon_1000.projects.nitrc.org/indi/retro/ATLAS/releases/R2.0/ATLAS_R2.0_encrypted.tar.gz",
            sha256="b9cdf26486e7dd325d5d6617f2218204bbaa0b649dbca03e729a41a449bef671",
        ),
    ),
    layouts=(
        Layout(
            name="INDI",
            patterns=(
                Pattern(
                    image=(
                        r"Training/(?P<site>R\d+)/(?P<subject>sub-r\d+s\d+)/ses-(?P<session>[^/]+)/anat/"
                        rf"(?P<stem>{STEM})_T1w"
                    ),
                    subset="train",
                    sequence="T1w",
                    label="{top}Training/{site}/{subject}/ses-{session}/anat/{stem}_label-L_desc-T1lesion_mask",
                ),
                Pattern(
                    image=rf"Testing/(?:[^/]+/)*(?P<subject>sub-r\d+s\d+)/ses-(?P<session>[^/]+)/anat/{STEM}_T1w",
                    subset="unlabelled",
                    sequence="T1w",
                ),
            ),
            examples=(
                f"{EXAMPLE}_T1w.nii.gz",
                f"{EXAMPLE}_label-L_desc-T1lesion_mask.nii.gz",
                f"{EXAMPLE}_T1w.nii.gz".replace("Training/R001", "Testing/R027").replace("r001s001", "r027s001"),
            ),
        ),
    ),
    labels={1: "lesion"},
    label_sequences=("T1w",),
    expected={"subjects": 955, "volumes": 955},
    n_shards=4,
)
