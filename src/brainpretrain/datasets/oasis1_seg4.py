"""OASIS-1 as neurite-OASIS, with its labels of 4 tissues (`seg4`) instead of the 35 structures of `oasis1`.

Zhang et al. use it as a task. The release derives `seg4` from `seg35`. The names of the classes come from public code and have
not been compared with the list of the release, `seg4_labels.txt`. To store the files only once, set the data root of
`oasis1_seg4` to the folder of `oasis1`. The volumes are those of `oasis1`, so a corpus with `oasis1` must leave out the subjects
that are scored here. The overlap audit finds them by name (`persons`) and by their images.
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
            patterns=tuple(replace(pattern, label="{top}{subject}_{session}/seg4") for pattern in _NEURITE.patterns),
            examples=(*_NEURITE.examples[:2], f"{oasis1.SESSION}/seg4.nii.gz"),
            unused=(r"(?:.+/)?OASIS_OAS1_\d{4}_MR\d/(?:aligned_.+|slice_.+|seg35\.nii\.gz)",),
        ),
    ),
    labels={1: "Cortex", 2: "Subcortical-Gray-Matter", 3: "White-Matter", 4: "CSF"},
)
