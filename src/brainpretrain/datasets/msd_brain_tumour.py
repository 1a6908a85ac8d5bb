"""Medical Segmentation Decathlon, task 1: 4-D files of four sequences of patients with a glioma."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

CHANNELS = ("FLAIR", "T1w", "T1ce", "T2w")

DATASET = Dataset(
    name="msd_brain_tumour",
    title="MSD Task01 BrainTumour",
    access="auto",
    page="http://medicaldecathlon.com",
    licence="CC BY-SA 4.0",
    licence_url="https://creativecommons.org/licenses/by-sa/4.0/",
    citation="Antonelli et al., Segmentation Decathlon, Nat Commun 2022, doi:10.1038/s41467-022-30695-9",
    redistribution=True,
    archives=(
        Archive(
            name="Task01_BrainTumour.tar",
            url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task01_BrainTumour.tar",
            sha256="d423911308d2ae5396d9c6bf4fad2b68cfde2dd09044269da9c0d639c22753c4",
            md5="240a19d752f0d9e9101544901065d872",
        ),
    ),
    layouts=(
        Layout(
            name="decathlon",
            patterns=(
                Pattern(
                    image=r"imagesTr/(?P<subject>BRATS_\d+)",
                    subset="train",
                    channels=CHANNELS,
                    label="{top}labelsTr/{subject}",
                ),
                Pattern(image=r"imagesTs/(?P<subject>BRATS_\d+)", subset="unlabelled", channels=CHANNELS),
            ),
            examples=(
                "imagesTr/BRATS_001.nii.gz",
                "labelsTr/BRATS_001.nii.gz",
                "imagesTs/BRATS_485.nii.gz",
            ),
        ),
    ),
    labels={1: "oedema", 2: "non_enhancing", 3: "enhancing"},
    label_sequences=CHANNELS,
    expected={"subjects": 750, "volumes": 3000},
    # The 266 unlabelled subjects. Renamed cases of BraTS 2016/2017, so BraTS21 patients may be among them.
    brains45k={"subjects": 266, "sessions": 266, "volumes": 1064},
    n_shards=12,
    whole=True,
)
