"""Stanford BrainMetShare: four skull-stripped sequences of 156 studies, 105 of them with labelled metastases.

Only the NIfTI release is read. The older release consists of PNG slices below `mets_stanford_releaseMask_train/`, without a
voxel spacing, and is not supported.
"""

from brainpretrain.datasets.base import Dataset, Layout, Pattern

# T1ceGRE: gradient echo (BRAVO) after contrast; T1ce: spin echo after contrast.
SEQUENCES = {"bravo": "T1ceGRE", "flair": "FLAIR", "t1_gd": "T1ce", "t1_pre": "T1w"}
IMAGE = r"(?P<subject>Mets_\d+)/(?P<sequence>[a-z0-9_]+)"

DATASET = Dataset(
    name="brainmets",
    title="Stanford BrainMetShare",
    access="place",
    page="https://aimi.stanford.edu/brainmetshare",
    licence="Stanford University dataset research use agreement",
    licence_url="https://aimi.stanford.edu/brainmetshare",
    citation="Grovik et al., J Magn Reson Imaging 2020, doi:10.1002/jmri.26766",
    redistribution=False,
    archives=(),
    layouts=(
        Layout(
            name="NIfTI",
            patterns=(
                Pattern(
                    image="train/" + IMAGE,
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}train/{subject}/seg",
                    required=tuple(SEQUENCES.values()),
                ),
                Pattern(image="test/" + IMAGE, subset="unlabelled", sequence=SEQUENCES, required=tuple(SEQUENCES.values())),
            ),
            examples=(
                *(f"train/Mets_001/{name}.nii.gz" for name in (*SEQUENCES, "seg")),
                *(f"test/Mets_106/{name}.nii.gz" for name in SEQUENCES),
            ),
        ),
    ),
    labels={1: "metastasis"},
    label_sequences=tuple(SEQUENCES.values()),
    expected={"subjects": 156, "volumes": 624},
    n_shards=3,
)
