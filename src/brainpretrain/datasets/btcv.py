"""BTCV (Beyond the Cranial Vault), abdomen: CT of 50 patients, with 13 organs labelled in 30.

It is used to test transfer to another organ. CT has values below 0, which the recipe `amaes` rejects; use the recipe `ct`.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_vein",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)

DATASET = Dataset(
    name="btcv",
    title="BTCV, abdomen",
    access="credential",
    page="https://www.synapse.org/Synapse:syn3193805",
    licence="registration and terms of the BTCV challenge",
    licence_url="https://www.synapse.org/Synapse:syn3193805",
    citation="Landman et al., MICCAI multi-atlas labeling beyond the cranial vault 2015, doi:10.7303/syn3193805",
    redistribution=False,
    archives=(Archive(name="RawData.zip", url="synapse:syn3193805"),),
    layouts=(
        Layout(
            name="synapse",
            patterns=(
                Pattern(
                    image=r"Training/img/img(?P<subject>\d{4})",
                    subset="train",
                    sequence="CT",
                    label="{top}Training/label/label{subject}",
                ),
                Pattern(image=r"Testing/img/img(?P<subject>\d{4})", subset="unlabelled", sequence="CT"),
            ),
            examples=(
                "RawData/Training/img/img0001.nii.gz",
                "RawData/Training/label/label0001.nii.gz",
                "RawData/Testing/img/img0061.nii.gz",
            ),
        ),
    ),
    labels=dict(enumerate(ORGANS, start=1)),
    label_sequences=("CT",),
    expected={"subjects": 50, "volumes": 50},
    n_shards=1,
)
