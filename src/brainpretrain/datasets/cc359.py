"""Calgary-Campinas-359: T1w of healthy adults, three vendors at 1.5 and 3 T, without labels.

The name `CC0001_philips_15_55_M` is id, vendor, field (15 means 1.5 T), age and sex; vendor and field are the site. The
brain masks of the release are probabilities (STAPLE) or automatic (`_ss`), so no task of this project uses them. The owners' page
asks for registration, so the archive is not downloaded from a public mirror.
"""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

DATASET = Dataset(
    name="cc359",
    title="Calgary-Campinas-359",
    access="place",
    page="https://sites.google.com/view/calgary-campinas-dataset/download",
    licence="CC BY-ND 4.0",
    licence_url="https://creativecommons.org/licenses/by-nd/4.0/",
    citation="Souza et al., NeuroImage 2018, doi:10.1016/j.neuroimage.2017.08.021",
    redistribution=False,
    archives=(
        Archive(
            name="Original.zip",
            sha256="c3108b56e4d2c950537b04b7b3f597c5511111dbfe02cc629610ae6538c91211",
        ),
    ),
    layouts=(
        Layout(
            name="original",
            patterns=(
                Pattern(
                    image=r"(?P<subject>CC\d{4})_(?P<site>[a-z]+_\d+)_\d+_[MF]",
                    subset="unlabelled",
                    sequence="T1w",
                ),
            ),
            examples=("Original/CC0001_philips_15_55_M.nii.gz", "Original/CC0121_siemens_15_61_M.nii.gz"),
            unused=(r".*_(?:staple|ss|mask)\.nii\.gz",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected={"subjects": 359, "volumes": 359},
    n_shards=2,
)
