"""PPMI: the collection that a user has compiled at LONI, with the selection of series of BRAINS-45K.

DICOM series are read after their conversion: below `nifti/`, on the path of the series.
"""

from brainpretrain.datasets.base import CONVERTED, Dataset, Layout, Pattern, guess_sequence

SERIES = r"(?P<subject>\d{4,6})/(?P<series>(?P<sequence>[^/]+))/(?P<session>\d{4}-\d{2}-\d{2})_[^/]+/(?P<run>[^/]+)/"
ACCEPT = ("t1", "t2", "mprage", "flair", "gre", "dwi", "swi", "grappa")
REJECT = ("resting_state", "fmri", "corrected", "mt", "repeat", "space", "2d")

DATASET = Dataset(
    name="ppmi",
    title="Parkinson's Progression Markers Initiative",
    access="place",
    page="https://www.ppmi-info.org/access-data-specimens/download-data",
    licence="PPMI data use agreement",
    licence_url="https://www.ppmi-info.org/sites/default/files/docs/ppmi-data-use-agreement.pdf",
    citation="Marek et al., The Parkinson Progression Marker Initiative, Prog Neurobiol 2011, "
    "doi:10.1016/j.pneurobio.2011.09.005",
    redistribution=False,
    archives=(),
    layouts=(
        Layout(
            name="LONI, NIfTI",
            patterns=(
                Pattern(
                    image=rf"{CONVERTED}/(?:.+/)?{SERIES}(?:.+/)?(?P<run_file>[^/]+)",
                    subset="unlabelled",
                    sequence=guess_sequence,
                    accept=ACCEPT,
                    reject=REJECT,
                ),
                Pattern(
                    image=SERIES + r"(?:nifti/)?[^/]+",
                    subset="unlabelled",
                    sequence=guess_sequence,
                    accept=ACCEPT,
                    reject=REJECT,
                ),
            ),
            examples=(
                "DATA/3102/MPRAGE_GRAPPA/2011-03-17_10_12_00.0/I224563/PPMI_3102_MR_MPRAGE_GRAPPA_S101_I224563.nii",
                "DATA/3102/AX_T2_FLAIR/2012-03-20_09_01_13.0/I301122/nifti/PPMI_3102_MR_AX_T2_FLAIR_S102_I301122.nii",
            ),
            unused=(r".*\.(?:dcm|xml|json|tsv)",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected={"subjects": 2011, "volumes": 9554},
    brains45k={"subjects": 2011, "sessions": 2979, "volumes": 9554},
    n_shards=38,
)
