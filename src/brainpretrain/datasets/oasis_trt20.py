"""OASIS-TRT-20 of Mindboggle-101: skull-stripped T1w with manual cortical (DKT31) and subcortical labels.

The subjects are twenty of OASIS-1; the order of their numbers was seen to hold for the 13 who are also in the challenge of MICCAI
2012 (docs/cohorts.md).
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

# Values of FreeSurfer, with the additions of Mindboggle. Cerebral white matter is not labelled.
SUBCORTEX = {
    4: "Left-Lateral-Ventricle",
    5: "Left-Inf-Lat-Vent",
    6: "Left-Cerebellum-Exterior",
    7: "Left-Cerebellum-White-Matter",
    10: "Left-Thalamus-Proper",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    14: "3rd-Ventricle",
    15: "4th-Ventricle",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    18: "Left-Amygdala",
    24: "CSF",
    26: "Left-Accumbens-area",
    28: "Left-VentralDC",
    30: "Left-vessel",
    43: "Right-Lateral-Ventricle",
    44: "Right-Inf-Lat-Vent",
    45: "Right-Cerebellum-Exterior",
    46: "Right-Cerebellum-White-Matter",
    49: "Right-Thalamus-Proper",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
    54: "Right-Amygdala",
    58: "Right-Accumbens-area",
    60: "Right-VentralDC",
    62: "Right-vessel",
    72: "5th-Ventricle",
    74: "Right-Interior",
    85: "Optic-Chiasm",
    91: "Left-Basal-Forebrain",
    92: "Right-Basal-Forebrain",
    630: "Cerebellar-Vermal-Lobules-I-V",
    631: "Cerebellar-Vermal-Lobules-VI-VII",
    632: "Cerebellar-Vermal-Lobules-VIII-X",
}
# 1000 + key on the left, 2000 + key on the right.
CORTEX = {
    2: "caudalanteriorcingulate",
    3: "caudalmiddlefrontal",
    5: "cuneus",
    6: "entorhinal",
    7: "fusiform",
    8: "inferiorparietal",
    9: "inferiortemporal",
    10: "isthmuscingulate",
    11: "lateraloccipital",
    12: "lateralorbitofrontal",
    13: "lingual",
    14: "medialorbitofrontal",
    15: "middletemporal",
    16: "parahippocampal",
    17: "paracentral",
    18: "parsopercularis",
    19: "parsorbitalis",
    20: "parstriangularis",
    21: "pericalcarine",
    22: "postcentral",
    23: "posteriorcingulate",
    24: "precentral",
    25: "precuneus",
    26: "rostralanteriorcingulate",
    27: "rostralmiddlefrontal",
    28: "superiorfrontal",
    29: "superiorparietal",
    30: "superiortemporal",
    31: "supramarginal",
    32: "frontalpole",
    33: "temporalpole",
    34: "transversetemporal",
    35: "insula",
}


# Number of each subject in OASIS-1: OASIS-TRT-20-k is the k-th of these.
OASIS1 = (61, 80, 92, 101, 111, 117, 145, 150, 156, 191, 202, 230, 236, 239, 249, 285, 353, 368, 379, 395)


def person(subject: str) -> str:
    """The subject's name in OASIS-1: OAS1_0061 for OASIS-TRT-20-01 or OASIS-TRT-20-1."""
    number = subject.removeprefix("OASIS-TRT-20-")
    return f"OAS1_{OASIS1[int(number) - 1]:04d}" if number.isdigit() and 1 <= int(number) <= len(OASIS1) else ""


def _labels() -> dict[int, str]:
    left = {1000 + value: f"ctx-lh-{name}" for value, name in CORTEX.items()}
    right = {2000 + value: f"ctx-rh-{name}" for value, name in CORTEX.items()}
    return SUBCORTEX | left | right


DATASET = Dataset(
    name="oasis_trt20",
    title="OASIS-TRT-20 (Mindboggle-101)",
    access="place",
    page="https://mindboggle.info/data",
    licence="CC BY-NC-SA 3.0",
    licence_url="https://creativecommons.org/licenses/by-nc-sa/3.0/",
    citation="Klein and Tourville, Front Neurosci 2012, doi:10.3389/fnins.2012.00171; "
    "Marcus et al. (OASIS-1), J Cogn Neurosci 2007, doi:10.1162/jocn.2007.19.9.1498",
    redistribution=True,
    archives=(Archive(name="OASIS-TRT-20_volumes.tar.gz"),),
    layouts=(
        Layout(
            name="two digits",
            patterns=(
                Pattern(
                    image=r"(?P<subject>OASIS-TRT-20-\d{2})/T1_brain",
                    subset="train",
                    sequence="T1w",
                    label="{top}{subject}/labels_DKT31_aseg",
                ),
            ),
            examples=("OASIS-TRT-20-01/T1_brain.nii.gz", "OASIS-TRT-20-01/labels_DKT31_aseg.nii.gz"),
        ),
        Layout(
            name="Mindboggle-101",
            patterns=(
                Pattern(
                    image=r"(?P<subject>OASIS-TRT-20-\d+)/t1weighted_brain",
                    subset="train",
                    sequence="T1w",
                    label="{top}{subject}/labels.DKT31.manual+aseg",
                ),
            ),
            examples=(
                "OASIS-TRT-20_volumes/OASIS-TRT-20-1/t1weighted_brain.nii.gz",
                "OASIS-TRT-20_volumes/OASIS-TRT-20-1/labels.DKT31.manual+aseg.nii.gz",
            ),
        ),
    ),
    labels=_labels(),
    label_sequences=("T1w",),
    expected={"subjects": 20, "volumes": 20},
    n_shards=1,
    persons=person,
    aliases={f"OASIS-TRT-20-{number}": f"OASIS-TRT-20-0{number}" for number in range(1, 10)},
)
