"""HNTS-MRG 2024: T2w of the head and neck before and during radiotherapy, tumour and nodes labelled on both.

The two time points are sessions of one subject, so a split keeps them together. The empty masks of subjects 21, 25, 29 and 42 in
the second session are correct. The release also holds the first session resampled to the second, which is not used.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

DATASET = Dataset(
    name="hnts_mrg24",
    title="HNTS-MRG 2024",
    access="auto",
    page="https://zenodo.org/records/11199559",
    licence="CC BY-NC 4.0",
    licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
    citation="Wahid et al., HNTS-MRG 2024 training data, doi:10.5281/zenodo.11199559",
    redistribution=True,
    archives=(
        Archive(
            name="HNTSMRG24_train.zip",
            url="https://zenodo.org/records/11199559/files/HNTSMRG24_train.zip",
            sha256="675e3c56509b0b5bcaad1291990dfa4a8ef054bb468a71b6cd08189a5e67bfb6",
        ),
    ),
    layouts=(
        Layout(
            name="zenodo",
            patterns=(
                Pattern(
                    image=r"(?P<subject>\d+)/(?P<session>preRT|midRT)/\d+_(?:preRT|midRT)_T2",
                    subset="train",
                    sequence="T2w",
                    label="{top}{subject}/{session}/{subject}_{session}_mask",
                ),
            ),
            examples=(
                "HNTSMRG24_train/2/preRT/2_preRT_T2.nii.gz",
                "HNTSMRG24_train/2/preRT/2_preRT_mask.nii.gz",
                "HNTSMRG24_train/2/midRT/2_midRT_T2.nii.gz",
                "HNTSMRG24_train/2/midRT/2_midRT_mask.nii.gz",
            ),
            unused=(r"(?:.+/)?\d+/midRT/\d+_preRT_(?:T2|mask)_registered\.nii\.gz",),
        ),
    ),
    labels={1: "primary_tumour", 2: "lymph_nodes"},
    label_sequences=("T2w",),
    expected={"subjects": 150, "volumes": 300},
    n_shards=2,
)
