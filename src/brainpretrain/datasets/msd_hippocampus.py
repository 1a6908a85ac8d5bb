"""Medical Segmentation Decathlon, task 4: T1w crops with labels of the anterior and posterior hippocampus."""

from brainpretrain.datasets.base import decathlon

DATASET = decathlon(
    task="Task04_Hippocampus",
    case="hippocampus",
    examples=("001", "002"),
    sequences=("T1w",),
    sha256="282d808a3e84e5a52f090d9dd4c0b0057b94a6bd51ad41569aef5ff303287771",
    md5="9d24dba78a72977dbd1d2e110310f31b",
    name="msd_hippocampus",
    labels={1: "anterior", 2: "posterior"},
    # As counted in the archive; the papers state 263 and 131.
    expected={"subjects": 390, "volumes": 390},
    n_shards=2,
)
