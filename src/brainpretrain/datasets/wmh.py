"""WMH 2017: FLAIR and T1w with white matter hyperintensities labelled, from five scanners.

The host states size and md5 of each file, 8.76 GB in all. A `dataverse_files.zip` from its page is accepted as well.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

SEQUENCES = {"FLAIR": "FLAIR", "T1": "T1w"}
# `pre` holds the bias-corrected images. Its T1 is registered to the FLAIR, and the label is on the grid of the FLAIR.
# A site is a folder; Amsterdam has two, one of which is spelled `Philips_VU .PETMR_01.` in the release.
IMAGE = r"(?P<site>Utrecht|Singapore|Amsterdam/[^/]+)/(?P<subject>\d+)/pre/(?P<sequence>[A-Z0-9]+)"

DATASET = Dataset(
    name="wmh",
    title="White Matter Hyperintensities segmentation challenge 2017",
    access="auto",
    page="https://dataverse.nl/dataset.xhtml?persistentId=doi:10.34894/AECRSD",
    licence="CC BY-NC 4.0",
    licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
    citation="Kuijf et al., WMH segmentation challenge, IEEE TMI 2019, doi:10.1109/TMI.2019.2905770",
    redistribution=True,
    archives=(Archive(name="dataverse_files", url="dataverse:dataverse.nl/doi:10.34894/AECRSD"),),
    layouts=(
        Layout(
            name="dataverse",
            patterns=(
                Pattern(
                    image=r"training/" + IMAGE,
                    subset="train",
                    sequence=SEQUENCES,
                    label="{top}training/{site}/{subject}/wmh",
                    required=tuple(SEQUENCES.values()),
                ),
                Pattern(
                    image=r"test/" + IMAGE,
                    subset="test",
                    sequence=SEQUENCES,
                    label="{top}test/{site}/{subject}/wmh",
                    required=tuple(SEQUENCES.values()),
                ),
            ),
            examples=(
                "training/Utrecht/0/pre/FLAIR.nii.gz",
                "training/Utrecht/0/pre/T1.nii.gz",
                "training/Utrecht/0/wmh.nii.gz",
                "test/Amsterdam/Philips_VU .PETMR_01./160/pre/FLAIR.nii.gz",
                "test/Amsterdam/Philips_VU .PETMR_01./160/pre/T1.nii.gz",
                "test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz",
            ),
            unused=(r"(?:.+/)?orig/[^/]+", r"(?:.+/)?pre/3DT1\.nii\.gz"),
        ),
    ),
    labels={1: "wmh", 2: "other_pathology"},
    label_sequences=("FLAIR", "T1w"),
    expected={"subjects": 170, "volumes": 340},
    # The subset 'train'.
    brains45k={"subjects": 60, "sessions": 60, "volumes": 120},
    n_shards=2,
    whole=True,
    ignore=(2,),
)
