"""Ljubljana MS lesions, cross-sectional: 30 patients, lesion mask by consensus of three raters.

Resampling has left a few voxels below 0 in all volumes of the layout in MNI space, so negative voxels are accepted.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

RELEASE = {"FLAIR": "FLAIR", "T1W": "T1w", "T1WKS": "T1ce", "T2W": "T2w"}
MNI = {"FLAIR": "FLAIR", "T1": "T1w", "T2": "T2w"}

DATASET = Dataset(
    name="ljubljana_ms",
    title="3D MR image database of multiple sclerosis patients, Ljubljana",
    access="auto",
    page="https://github.com/muschellij2/open_ms_data",
    licence="CC BY",
    licence_url="https://creativecommons.org/licenses/by/4.0/",
    citation="Lesjak et al., Neuroinformatics 2018, doi:10.1007/s12021-017-9348-7",
    redistribution=True,
    archives=(
        Archive(
            name="open_ms_data-master.zip",
            url="https://github.com/muschellij2/open_ms_data/archive/master.zip",
        ),
    ),
    layouts=(
        Layout(
            name="release, registered to FLAIR",
            patterns=(
                Pattern(
                    image=r"coregistered/(?P<subject>patient\d+)/(?P<prefix>patient\d+_)?(?P<sequence>[A-Z0-9]+)",
                    subset="train",
                    sequence=RELEASE,
                    label="{top}coregistered/{subject}/{prefix}consensus_gt",
                    required=tuple(RELEASE.values()),
                ),
            ),
            examples=(
                "coregistered/patient01/FLAIR.nii.gz",
                "coregistered/patient01/T1W.nii.gz",
                "coregistered/patient01/T1WKS.nii.gz",
                "coregistered/patient01/T2W.nii.gz",
                "coregistered/patient01/consensus_gt.nii.gz",
            ),
        ),
        Layout(
            name="MNI, 1 mm",
            patterns=(
                Pattern(
                    image=r"(?P<subject>patient\d+)/(?P<sequence>[A-Z0-9]+)",
                    subset="train",
                    sequence=MNI,
                    label="{top}{subject}/lesion_gt",
                    required=tuple(MNI.values()),
                ),
            ),
            examples=(
                "patient07/FLAIR.nii.gz",
                "patient07/T1.nii.gz",
                "patient07/T2.nii.gz",
                "patient07/lesion_gt.nii.gz",
            ),
        ),
    ),
    labels={1: "lesion"},
    label_sequences=("FLAIR", "T1w", "T1ce", "T2w"),
    expected={"subjects": 30, "volumes": 120},
    n_shards=1,
    whole=True,
)
