"""BraTS-Africa 2023 (BraTS-SSA): gliomas from sub-Saharan Africa, prepared like BraTS21.

The counts are those of the first release; later releases are larger. The Synapse number is that of the challenge's data page;
size and checksum of the archive are not on record.
"""

from brainpretrain.datasets.base import brats2023

DATASET = brats2023(
    code="SSA",
    synapse="syn51514109",
    name="brats_africa",
    title="BraTS-Africa 2023",
    citation="Adewole et al., BraTS-Africa, arXiv:2305.19369",
    labels={1: "necrotic", 2: "oedema", 3: "enhancing"},
    expected={"subjects": 60, "volumes": 240},
    n_shards=1,
)
