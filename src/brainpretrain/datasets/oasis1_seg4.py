"""OASIS-1 as neurite-OASIS, with its labels of 4 tissues (`seg4`) in place of the 35 structures; all else is as in `oasis1`.

A task of Zhang et al. The release makes `seg4` from `seg35`. The names of the classes are those that public code gives to it; the
list in the release, `seg4_labels.txt`, has not been read. To have the files once, set `data_roots: {oasis1_seg4: ...}` to the
folder of `oasis1`. The volumes are those of `oasis1`: a corpus with that must leave out the subjects that are scored here; the
audit of overlap knows them by their images, since a subject's name counts within one data set.
"""

from dataclasses import replace

from brainpretrain.datasets import oasis1
from brainpretrain.datasets.base import Layout

_NEURITE = oasis1.DATASET.layouts[0]

DATASET = replace(
    oasis1.DATASET,
    name="oasis1_seg4",
    title="OASIS-1 (neurite-OASIS), 4 tissues",
    layouts=(
        Layout(
            name="neurite",
            patterns=(replace(_NEURITE.patterns[0], label="{top}{subject}_{session}/seg4"),),
            examples=(*_NEURITE.examples[:2], f"{oasis1.SESSION}/seg4.nii.gz"),
            unused=(r"(?:.+/)?OASIS_OAS1_\d{4}_MR\d/(?:aligned_.+|slice_.+|seg35\.nii\.gz)",),
        ),
    ),
    labels={1: "Cortex", 2: "Subcortical-Gray-Matter", 3: "White-Matter", 4: "CSF"},
)
