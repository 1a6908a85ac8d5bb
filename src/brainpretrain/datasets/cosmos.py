"""COSMOS: carotid vessel wall MRI, 50 training cases, DICOM that is converted before it is read; without labels.

The labels are contours, which no step of this project converts to masks. A case is a folder of DICOM files below
`Training_dataset/`. The host states names, sizes and checksums of the files of its record. The name of the sequence is not
documented, so it is `unknown`.
"""

from brainpretrain.datasets.base import CONVERTED, Archive, Dataset, Layout, Pattern

DATASET = Dataset(
    name="cosmos",
    title="COSMOS (carotid vessel wall segmentation challenge 2022)",
    access="auto",
    page="https://zenodo.org/records/6481870",
    licence="terms of the challenge",
    licence_url="https://zenodo.org/records/6481870",
    citation="COSMOS 2022, doi:10.5281/zenodo.6481870",
    redistribution=False,
    archives=(Archive(name="COSMOS", url="zenodo:zenodo.org/6481870"),),
    layouts=(
        Layout(
            name="DICOM, converted",
            patterns=(
                Pattern(
                    image=rf"{CONVERTED}/(?:.+/)?Training_dataset/(?P<subject>[^/]+)/(?:.+/)?(?P<run>[^/]+)",
                    subset="unlabelled",
                    sequence="unknown",
                ),
            ),
            examples=(f"{CONVERTED}/Training_dataset/0_P113_U/series.nii.gz",),
            unused=(r".*\.(?:dcm|json|tsv)",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected={"subjects": 50, "volumes": 50},
    n_shards=1,
    source_format="dicom",
)
