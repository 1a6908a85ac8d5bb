"""FOMO60K: skull-stripped brain MRI from many public sources, sequences of a session on one grid, without labels.

Each source keeps its licence, and some need an agreement of their own; the texts are in the folders of the sources. Some sources,
such as OASIS-1 and IXI, are also data sets of this project, under other names. There are two layouts: subjects below the folder
of their source, or (as first published) all in one folder. The number of scans is not on record, so no count is expected.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {
    "t1": "T1w",
    "mprage": "T1w",
    "t1c": "T1ce",
    "t2": "T2w",
    "t2s": "T2starw",
    "flair": "FLAIR",
    "pd": "PDw",
    "swi": "SWI",
    "dwi": "DWI",
    "adc": "ADC",
}
SCAN = r"ses_(?P<session>\d+)/(?P<sequence>[A-Za-z0-9]+)(?:_(?P<run>\d+))?"


def _layout(name: str, subject: str, example: str) -> Layout:
    pattern = Pattern(subject + SCAN, subset="unlabelled", sequence=lambda text: SEQUENCES.get(text.lower(), "unknown"))
    return Layout(name=name, patterns=(pattern,), examples=tuple(f"{example}/{file}.nii.gz" for file in ("t1", "flair", "t1_2")))


DATASET = Dataset(
    name="fomo60k",
    title="FOMO60K",
    access="credential",
    page="https://huggingface.co/datasets/FOMO-MRI/FOMO60K",
    licence="CC BY-NC-SA 4.0, and the licence of each source",
    licence_url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    citation="Munk et al., A large-scale heterogeneous 3D magnetic resonance brain imaging dataset, arXiv:2506.14432",
    redistribution=False,
    archives=(Archive(name="FOMO60K", url="hf:FOMO-MRI/FOMO60K"),),
    layouts=(
        _layout("by source", r"(?P<subject>(?P<site>PT\d+_[^/]+)/sub_[^/]+)/", "PT001_OASIS1/sub_1/ses_1"),
        _layout("one folder", r"(?P<subject>sub_[^/]+)/", "sub_1/ses_1"),
    ),
    labels={},
    label_sequences=(),
    expected=None,
    n_shards=240,
)
