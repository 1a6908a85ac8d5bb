"""BraTS 2021, training release: four sequences at 1 mm, skull-stripped, of 1251 patients with a glioma."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"t1": "T1w", "t1ce": "T1ce", "t2": "T2w", "flair": "FLAIR"}

DATASET = Dataset(
    name="brats21",
    title="RSNA-ASNR-MICCAI BraTS 2021",
    access="credential",
    page="https://www.synapse.org/Synapse:syn27046444",
    licence="registration and terms of the BraTS 2021 challenge",
    licence_url="https://www.synapse.org/Synapse:syn25829067",
    citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark, arXiv:2107.02314",
    redistribution=False,
    archives=(
        Archive(
            name="RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021.zip",
            url="synapse:syn27046444",
        ),
    ),
    layouts=(
        Layout(
            name="synapse",
            patterns=(
                Pattern(
                    image=r"(?P<subject>BraTS2021_\d+)/BraTS2021_\d+_(?P<sequence>[a-z0-9]+)",
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}{subject}/{subject}_seg",
                    required=tuple(SEQUENCES.values()),
                ),
            ),
            examples=(
                "BraTS2021_00000/BraTS2021_00000_flair.nii.gz",
                "BraTS2021_00000/BraTS2021_00000_t1.nii.gz",
                "BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz",
                "BraTS2021_00000/BraTS2021_00000_t2.nii.gz",
                "BraTS2021_00000/BraTS2021_00000_seg.nii.gz",
            ),
        ),
    ),
    labels={1: "necrotic", 2: "oedema", 4: "enhancing"},
    label_sequences=("T1w", "T1ce", "T2w", "FLAIR"),
    expected={"subjects": 1251, "volumes": 5004},
    # The subjects of the supervised split outside its test set.
    brains45k={"subjects": 938, "sessions": 938, "volumes": 3752},
    n_shards=20,
    whole=True,
    # Patients who appear under two numbers.
    aliases={"BraTS2021_00557": "BraTS2021_00639", "BraTS2021_00758": "BraTS2021_00626"},
)
