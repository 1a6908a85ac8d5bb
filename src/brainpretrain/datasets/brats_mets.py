"""BraTS-METS 2023: brain metastases before treatment, prepared like BraTS21.

Counts are those of the first release, later ones are larger. Sessions are the last three digits of a case. The Synapse
number is that of the challenge's page of the data; size and checksum have not been read.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"t1n": "T1w", "t1c": "T1ce", "t2w": "T2w", "t2f": "FLAIR"}
FOLDER = "ASNR-MICCAI-BraTS2023-MET-Challenge-TrainingData"
CASE = f"{FOLDER}/BraTS-MET-00002-000/BraTS-MET-00002-000"

DATASET = Dataset(
    name="brats_mets",
    title="BraTS-METS 2023",
    access="credential",
    page="https://www.synapse.org/Synapse:syn51514107",
    licence="registration and terms of the BraTS 2023 challenge",
    licence_url="https://www.synapse.org/Synapse:syn51514107",
    citation="Moawad et al., BraTS-METS, arXiv:2306.00838",
    redistribution=False,
    archives=(Archive(name=f"{FOLDER}.zip", url="synapse:syn51514107"),),
    layouts=(
        Layout(
            name="synapse, 2023",
            patterns=(
                Pattern(
                    image=(
                        r"(?P<subject>BraTS-MET-\d+)-(?P<session>\d+)/"
                        r"BraTS-MET-\d+-\d+-(?P<sequence>[a-z0-9]+)"
                    ),
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}{subject}-{session}/{subject}-{session}-seg",
                    required=tuple(SEQUENCES.values()),
                ),
            ),
            examples=tuple(f"{CASE}-{name}.nii.gz" for name in (*SEQUENCES, "seg")),
        ),
    ),
    labels={1: "non_enhancing", 2: "oedema", 3: "enhancing"},
    label_sequences=tuple(SEQUENCES.values()),
    expected={"subjects": 238, "volumes": 952},
    n_shards=4,
)
