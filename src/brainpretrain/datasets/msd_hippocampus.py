"""Medical Segmentation Decathlon, task 4: T1w crops, anterior and posterior hippocampus labelled."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

DATASET = Dataset(
    name="msd_hippocampus",
    title="MSD Task04 Hippocampus",
    access="auto",
    page="http://medicaldecathlon.com",
    licence="CC BY-SA 4.0",
    licence_url="https://creativecommons.org/licenses/by-sa/4.0/",
    citation="Antonelli et al., Segmentation Decathlon, Nat Commun 2022, doi:10.1038/s41467-022-30695-9",
    redistribution=True,
    archives=(
        Archive(
            name="Task04_Hippocampus.tar",
            url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
            sha256="282d808a3e84e5a52f090d9dd4c0b0057b94a6bd51ad41569aef5ff303287771",
            md5="9d24dba78a72977dbd1d2e110310f31b",
        ),
    ),
    layouts=(
        Layout(
            name="decathlon",
            patterns=(
                Pattern(
                    image=r"imagesTr/(?P<subject>hippocampus_\d+)",
                    subset="train",
                    sequence="T1w",
                    label="{top}labelsTr/{subject}",
                ),
                Pattern(image=r"imagesTs/(?P<subject>hippocampus_\d+)", subset="unlabelled", sequence="T1w"),
            ),
            examples=(
                "imagesTr/hippocampus_001.nii.gz",
                "labelsTr/hippocampus_001.nii.gz",
                "imagesTs/hippocampus_002.nii.gz",
            ),
        ),
    ),
    labels={1: "anterior", 2: "posterior"},
    label_sequences=("T1w",),
    # As counted in the archive; the papers say 263 and 131.
    expected={"subjects": 390, "volumes": 390},
    n_shards=2,
)
