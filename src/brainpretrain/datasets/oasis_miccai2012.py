"""MICCAI 2012 multi-atlas labelling challenge: brains of OASIS-1 (T1w, 1 mm) with manual labels of the whole brain.

The scans are numbered. 1000 + k and 1020 + k are the first and second scan of the k-th of the 20 OASIS-1 subjects that were
scanned twice, who are also OASIS-TRT-20; of the others, the OASIS-1 names of 7 are known. Both follow from the table that came
with 22 of the scans, which has 13 of these subjects (two of them twice) and the 7 others. A second scan counts as the same
patient, and the overlap audit knows all of them by their OASIS-1 names (`persons`). The values are Neuromorphometrics', the
same numbers as those of DLMUSE (`ixi`, `nichart_demo`) where both have a structure; `structures.tsv` maps them to 4 and 33. The
images are stripped. Two layouts are read: a folder for each scan, and the names of the R package malf.templates, whose files
`_mask` and `_tissues` are not used; of the 35 labelled scans there, 22 were at hand.
"""

from brainpretrain.datasets.base import Dataset, Layout, Pattern
from brainpretrain.datasets.ixi import CORTEX, MIDLINE
from brainpretrain.datasets.ixi import PAIRED as DLMUSE_PAIRED
from brainpretrain.datasets.oasis_trt20 import OASIS1

# Scans of subjects who were scanned once; the number in OASIS-1.
SINGLE = {1101: 91, 1104: 417, 1107: 40, 1110: 282, 1113: 331, 1116: 456, 1119: 300}
# Midline structures that DLMUSE does not have, or that the two have under one number.
OWN_MIDLINE = {15: "5thVentricle", 74: "VitaminETablet"}
# Value on the right, value on the left, of structures that DLMUSE does not have.
OWN_PAIRED = (
    (42, 43, "CerebralExterior"),
    (44, 45, "Cerebral_WM"),
    (63, 64, "Vessel"),
    (66, 65, "Insula"),
    (126, 127, "InferiorFrontalGyrus"),
)


def person(subject: str) -> str:
    """The subject's name in OASIS-1: OAS1_0061 for 1000; '' if it is not known."""
    number = int(subject)
    if number in SINGLE:
        return f"OAS1_{SINGLE[number]:04d}"
    return f"OAS1_{OASIS1[(number - 1000) % len(OASIS1)]:04d}" if 1000 <= number < 1000 + 2 * len(OASIS1) else ""


def _labels() -> dict[int, str]:
    midline = {value: name for value, name in MIDLINE.items() if value not in (1, 95)} | OWN_MIDLINE
    sides = [*(pair for pair in DLMUSE_PAIRED if pair[0] not in range(81, 95)), *OWN_PAIRED]
    sides += [(right, right + 1, name) for right, name in CORTEX.items()]
    right = {value: f"{name}_R" for value, _, name in sides}
    left = {value: f"{name}_L" for _, value, name in sides}
    return dict(sorted((midline | right | left).items()))


DATASET = Dataset(
    name="oasis_miccai2012",
    title="MICCAI 2012 multi-atlas labelling (OASIS-1, Neuromorphometrics)",
    access="place",
    page="https://github.com/muschellij2/malf.templates",
    licence="CC BY-NC 3.0",
    licence_url="https://creativecommons.org/licenses/by-nc/3.0/",
    citation="Landman and Warfield, MICCAI 2012 Workshop on Multi-Atlas Labeling; labels by Neuromorphometrics, Inc.; "
    "Marcus et al. (OASIS-1), J Cogn Neurosci 2007, doi:10.1162/jocn.2007.19.9.1498",
    redistribution=True,
    archives=(),
    layouts=(
        Layout(
            name="a folder for each scan",
            patterns=(
                Pattern(
                    image=r"(?P<subject>1\d{3})/T1_brain",
                    subset="train",
                    sequence="T1w",
                    label="{top}{subject}/labels_neuromorphometrics",
                ),
            ),
            examples=("1000/T1_brain.nii.gz", "1000/labels_neuromorphometrics.nii.gz"),
        ),
        Layout(
            name="malf.templates",
            patterns=(Pattern(image=r"(?P<subject>1\d{3})_SS", subset="train", sequence="T1w", label="{top}{subject}_glm"),),
            examples=("inst/extdata/1000_SS.nii.gz", "inst/extdata/1000_glm.nii.gz"),
            unused=(r"(?:.+/)?1\d{3}_(?:mask|tissues)\.nii\.gz",),
        ),
    ),
    labels=_labels(),
    label_sequences=("T1w",),
    expected={"subjects": 35, "volumes": 35},
    n_shards=1,
    persons=person,
    aliases={str(number + len(OASIS1)): str(number) for number in range(1000, 1000 + len(OASIS1))},
)
