"""Multiple sclerosis, Baghdad (Mendeley Data 8bctsm8jz7): FLAIR, T1w and T2w of 60 patients, each with its own lesion mask."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"Flair": "FLAIR", "T1": "T1w", "T2": "T2w"}

DATASET = Dataset(
    name="ms_flair",
    title="Brain MRI of multiple sclerosis with consensus lesion masks (Mendeley Data)",
    access="auto",
    page="https://data.mendeley.com/datasets/8bctsm8jz7/1",
    licence="CC BY 4.0",
    licence_url="https://creativecommons.org/licenses/by/4.0/",
    citation="Muslim et al., Data in Brief 2022, doi:10.1016/j.dib.2022.108139",
    redistribution=True,
    archives=(
        Archive(
            name="8bctsm8jz7-1.zip",
            url="https://data.mendeley.com/public-files/datasets/8bctsm8jz7/files/"
            "9356efeb-dcd8-4213-a2d4-8febe9f1a5db/file_downloaded",
            sha256="c90f0f47c9e1a5e0fafc87b77dfcbcb09ac0cf9ffdaa333aaec1b9c63d31a7b3",
        ),
    ),
    layouts=(
        Layout(
            name="mendeley",
            patterns=(
                Pattern(
                    image=r"(?P<subject>Patient-\d+)/(?P<number>\d+)-(?P<sequence>Flair|T1|T2)",
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}{subject}/{number}-LesionSeg-{sequence}",
                    required=tuple(SEQUENCES.values()),
                ),
            ),
            examples=(
                *(f"Patient-1/1-{name}.nii" for name in SEQUENCES),
                *(f"Patient-1/1-LesionSeg-{name}.nii" for name in SEQUENCES),
            ),
        ),
    ),
    labels={1: "lesion"},
    label_sequences=tuple(SEQUENCES.values()),
    expected={"subjects": 60, "volumes": 180},
    n_shards=1,
)
