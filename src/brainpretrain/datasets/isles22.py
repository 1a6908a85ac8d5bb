"""ISLES 2022: DWI, ADC and FLAIR after an ischaemic stroke, infarct labelled on the grid of DWI and ADC.

Three layouts of the release exist, and one of the sample cases that are part of the challenge's code (CC BY-SA 4.0). The archive
of the older record Zenodo 7153326 has the same name and is accepted if a user has it.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

BIDS = {"dwi": "DWI", "adc": "ADC", "FLAIR": "FLAIR"}
NAMED = {"DWI": "DWI", "ADC": "ADC", "FLAIR": "FLAIR"}
IMAGE = (
    r"(?P<subject>sub-strokecase\d+)/ses-(?P<session>\d+)/(?:anat/|dwi/)?"
    r"sub-strokecase\d+_ses-\d+_(?P<sequence>[A-Za-z]+)"
)
MASK = "{subject}/ses-{session}/{subject}_ses-{session}_msk"


def _bids(name: str, images: str, masks: str) -> Layout:
    """A release with subject folders below `images` (may be empty) and below `masks`."""
    subject = "sub-strokecase0001"
    stem = f"{subject}_ses-0001"
    return Layout(
        name=name,
        patterns=(
            Pattern(images + IMAGE, subset="train", sequence=BIDS, label="{top}" + masks + MASK, required=tuple(BIDS.values())),
        ),
        examples=(
            f"{images}{subject}/ses-0001/dwi/{stem}_dwi.nii.gz",
            f"{images}{subject}/ses-0001/dwi/{stem}_adc.nii.gz",
            f"{images}{subject}/ses-0001/anat/{stem}_FLAIR.nii.gz",
            f"{masks}{subject}/ses-0001/{stem}_msk.nii.gz",
        ),
    )


DATASET = Dataset(
    name="isles22",
    title="ISLES 2022",
    access="auto",
    page="https://zenodo.org/records/7960856",
    licence="CC BY 4.0",
    licence_url="https://creativecommons.org/licenses/by/4.0/",
    citation="Hernandez Petzsche et al., ISLES 2022, Sci Data 2022, doi:10.1038/s41597-022-01875-5",
    redistribution=True,
    archives=(
        Archive(
            name="ISLES-2022.zip",
            url="https://zenodo.org/records/7960856/files/ISLES-2022.zip",
            sha256="f374895e383f725ddd280db41ef36ed975277c33de0e587a631ca7ea7ad45d6b",
            also=("302ee280373cdd5c190ab763d72a7a50",),  # md5 of the archive of Zenodo 7153326
        ),
    ),
    # The layout without a folder above the subjects is last, since it also fits the files of the others.
    layouts=(
        _bids("rawdata", "rawdata/", "derivatives/"),
        _bids("images", "images/", "labels_derivatives/"),
        Layout(
            name="samples",
            patterns=(
                Pattern(
                    image=r"(?P<subject>sub-strokecase\d+)/(?P<sequence>[A-Z]+)",
                    subset="train",
                    sequence=NAMED,
                    label="{top}{subject}/lesion_msk",
                    required=tuple(NAMED.values()),
                ),
                Pattern(
                    image=r"(?P<subject>docker_case_\w+)/(?P<sequence>[A-Z]+)",
                    subset="unlabelled",
                    sequence=NAMED,
                ),
            ),
            examples=(
                "sub-strokecase0009/DWI.nii.gz",
                "sub-strokecase0009/ADC.nii.gz",
                "sub-strokecase0009/FLAIR.nii.gz",
                "sub-strokecase0009/lesion_msk.nii.gz",
                "docker_case_A/DWI.nii.gz",
            ),
        ),
        _bids("zenodo 7960856", "", "derivatives/"),
    ),
    labels={1: "infarct"},
    label_sequences=("DWI", "ADC"),
    expected={"subjects": 250, "volumes": 750},
    brains45k={"subjects": 250, "sessions": 250, "volumes": 750},
    n_shards=3,
    whole=True,
)
