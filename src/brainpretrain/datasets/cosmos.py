"""COSMOS: carotid vessel wall MRI, 50 training cases, DICOM that is converted before it is read, with outlined lumen and wall.

A case is a folder of DICOM files below `Training_dataset/`. Beside them, `<case>L.QVJ` and `<case>R.QVJ` name a QVS file for
each side, whose images hold contours of the kinds `Lumen` and `Outer Wall`, in pixels of an image scaled to 512 columns (known
from public code that reads the release). The step `fetch` draws them into a label file beside the converted volume: 1 lumen, 2
vessel wall. The experts outlined some slices of some vessels only, so all other slices, and the half of a slice whose vessel is
not outlined, have the value 3, which tasks must ignore. A contour belongs to the DICOM file whose name ends as that of its
image (`I24`). If they do not fit, the case is in the subset `unlabelled` and `fetch` says why; no file of the release was at
hand. The host states names, sizes and checksums of the files of its record. The name of the sequence is not documented, so it
is `unknown`.
"""

from brainpretrain.datasets.base import CONVERTED, Archive, Contours, Dataset, Layout, Pattern

ENDING = "_contours"
CASE = rf"{CONVERTED}/(?:.+/)?Training_dataset/(?P<subject>[^/]+)/(?P<folder>(?:.+/)?)(?P<run>[^/]+)"

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
                    image=CASE,
                    subset="train",
                    sequence="unknown",
                    masks=CASE + ENDING,
                    partly=True,
                ),
            ),
            examples=(
                f"{CONVERTED}/Training_dataset/0_P113_U/series.nii.gz",
                f"{CONVERTED}/Training_dataset/0_P113_U/series{ENDING}.nii.gz",
            ),
            unused=(r".*\.(?:dcm|json|tsv|QVJ|QVS|qvj|qvs)",),
        ),
    ),
    labels={1: "lumen", 2: "vessel_wall", 3: "not_outlined"},
    label_sequences=("unknown",),
    expected={"subjects": 50, "volumes": 50},
    n_shards=1,
    ignore=(3,),
    source_format="dicom",
    contours=Contours(vessels=("L", "R"), ending=ENDING, inner=1, outer=2, unread=3),
)
