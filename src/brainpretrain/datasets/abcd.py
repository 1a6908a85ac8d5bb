"""ABCD: T1w and T2w of children, minimally processed (release 5), unpacked from the packages of the NIH data hub.

Since June 2025 new requests go to the NBDC Data Hub. The number of volumes depends on the request, so no
count is stated. Publications that pretrain on ABCD use about 41,000 volumes, for which the number of shards is chosen.
"""

from brainpretrain.datasets.base import Dataset, Layout, Pattern

SESSION = "abcd-mproc-release5/sub-NDARINV00000000/ses-baselineYear1Arm1/anat/sub-NDARINV00000000_ses-baselineYear1Arm1"

DATASET = Dataset(
    name="abcd",
    title="Adolescent Brain Cognitive Development Study",
    access="place",
    page="https://www.nbdc-datahub.org",
    licence="ABCD data use certification",
    licence_url="https://www.nbdc-datahub.org",
    citation="Casey et al., Dev Cogn Neurosci 2018, doi:10.1016/j.dcn.2018.03.001",
    redistribution=False,
    archives=(),
    layouts=(
        Layout(
            name="abcd-mproc-release5",
            patterns=(
                Pattern(
                    image=(
                        r"(?P<subject>sub-NDARINV[A-Z0-9]+)/ses-(?P<session>[^/]+)/anat/"
                        r"sub-[^_/]+_ses-[^_/]+(?P<run_entities>(?:_[a-z]+-[A-Za-z0-9]+)*)_(?P<sequence>T1w|T2w)"
                    ),
                    subset="unlabelled",
                    sequence=str,
                ),
            ),
            examples=(f"{SESSION}_run-01_T1w.nii", f"{SESSION}_run-01_T2w.nii"),
        ),
    ),
    labels={},
    label_sequences=(),
    expected=None,
    n_shards=160,
)
