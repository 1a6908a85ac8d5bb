"""BraTS-METS 2023: brain metastases before treatment, prepared like BraTS21.

The counts are those of the first release; later releases are larger. The Synapse number is that of the challenge's data page;
size and checksum of the archive are not on record.
"""

from brainpretrain.datasets.base import brats2023

DATASET = brats2023(
    code="MET",
    synapse="syn51514107",
    name="brats_mets",
    title="BraTS-METS 2023",
    citation="Moawad et al., BraTS-METS, arXiv:2306.00838",
    labels={1: "non_enhancing", 2: "oedema", 3: "enhancing"},
    expected={"subjects": 238, "volumes": 952},
    n_shards=4,
)
