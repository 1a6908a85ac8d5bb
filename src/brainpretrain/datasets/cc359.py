"""Calgary-Campinas-359: T1w of healthy adults, three vendors at 1.5 and 3 T, with the brain masks of the release if in place.

The name `CC0001_philips_15_55_M` is id, vendor, field (15 means 1.5 T), age and sex; vendor and field are the site. The masks
that are read are those of `Silver-standard-machine-learning.zip`, which unpacks to `Silver-standard/<name>_ss.nii.gz`, as
public code for the data set reads them (its folder may be anywhere below the root). They are automatic, by a trained
classifier. The other masks of the release are not read: those of STAPLE (`_staple`) are probabilities, and the manual ones
exist for 12 subjects. An image without a mask is in the subset `unlabelled`. No file of the release was at hand: a mask with
other values than 0 and 1 is rejected when it is stored, with its values. The owners' page asks for registration, so the
archives are not downloaded from a public mirror.
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
                    image=r"(?P<name>(?P<subject>CC\d{4})_(?P<site>[a-z]+_\d+)_\d+_[MF])",
                    subset="train",
                    sequence="T1w",
                    masks=r"(?P<name>CC\d{4}_[a-z]+_\d+_\d+_[MF])_ss",
                    partly=True,
                ),
            ),
            examples=(
                "Original/CC0001_philips_15_55_M.nii.gz",
                "Original/CC0121_siemens_15_61_M.nii.gz",
                "Silver-standard-machine-learning/Silver-standard/CC0001_philips_15_55_M_ss.nii.gz",
            ),
            unused=(r".*_(?:staple|manual|mask)\.nii\.gz",),
        ),
    ),
    labels={1: "brain"},
    label_sequences=("T1w",),
    expected={"subjects": 359, "volumes": 359},
    n_shards=2,
)
