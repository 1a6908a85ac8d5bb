"""ADNI: the collection that a user has compiled at LONI. Every series is used, as in BRAINS-45K.

DICOM series are read after their conversion: below `nifti/`, on the path of the series.
"""

from brainpretrain.datasets.base import CONVERTED, Dataset, Layout, Pattern, guess_sequence

SERIES = r"(?P<subject>\d{3}_S_\d{4,5})/(?P<sequence>[^/]+)/(?P<session>\d{4}-\d{2}-\d{2})_[^/]+/(?P<run>[^/]+)/"

DATASET = Dataset(
    name="adni",
    title="Alzheimer's Disease Neuroimaging Initiative",
    access="place",
    page="https://adni.loni.usc.edu/data-samples/access-data/",
    licence="ADNI data use agreement",
    licence_url="https://ida.loni.usc.edu/collaboration/access/appLicense.jsp",
    citation="Jack et al., The ADNI: MRI methods, JMRI 2008, doi:10.1002/jmri.21049",
    redistribution=False,
    archives=(),
    layouts=(
        Layout(
            name="LONI, NIfTI",
            patterns=(
                Pattern(image=rf"{CONVERTED}/(?:.+/)?{SERIES}(?P<run_file>[^/]+)", subset="unlabelled", sequence=guess_sequence),
                Pattern(image=SERIES + "[^/]+", subset="unlabelled", sequence=guess_sequence),
            ),
            examples=(
                "ADNI/002_S_0413/MPR__GradWarp__B1_Correction__N3__Scaled/2006-05-02_12_31_52.0/I40657/"
                "ADNI_002_S_0413_MR_MPR__GradWarp__B1_Correction__N3__Scaled_S13893_I40657.nii",
                "ADNI/002_S_0413/Axial_FLAIR/2017-06-21_13_23_38.0/I863054/ADNI_002_S_0413_MR_Axial_FLAIR_I863054.nii",
            ),
            unused=(r".*\.(?:dcm|xml|json|tsv)",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected={"subjects": 1563, "volumes": 9548},
    brains45k={"subjects": 1563, "sessions": 8019, "volumes": 9548},
    n_shards=38,
)
