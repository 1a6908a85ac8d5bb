"""Medical Segmentation Decathlon, task 1: 4-D files of four sequences of patients with a glioma."""

from brainpretrain.datasets.base import decathlon

DATASET = decathlon(
    task="Task01_BrainTumour",
    case="BRATS",
    examples=("001", "485"),
    sequences=("FLAIR", "T1w", "T1ce", "T2w"),
    sha256="d423911308d2ae5396d9c6bf4fad2b68cfde2dd09044269da9c0d639c22753c4",
    md5="240a19d752f0d9e9101544901065d872",
    name="msd_brain_tumour",
    labels={1: "oedema", 2: "non_enhancing", 3: "enhancing"},
    expected={"subjects": 750, "volumes": 3000},
    # The 266 unlabelled subjects. Their cases are renamed from BraTS 2016/2017, so BraTS21 patients may be among them.
    brains45k={"subjects": 266, "sessions": 266, "volumes": 1064},
    n_shards=12,
    whole=True,
)
