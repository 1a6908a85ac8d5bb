"""ADNI: the collection that a user has compiled at LONI. Every series is used, as in BRAINS-45K.

DICOM series are read after their conversion: below `nifti/`, on the path of the series.

A collection may hold masks that ADNI's groups have derived, as series of their own. The whole-brain masks of MIDAS
(`MIDAS_Whole_Brain_Mask`) are the labels of the images that they were made from: those whose last step of correction is
`Scaled`, of the same subject, day and series (`S13408` in the names of both files; all of this is known from names in public
code, not from files). These images are in the subset `train`. All others are in `unlabelled`, also other versions of the same
scan, so a task says `subsets: [train]`. Masks of other kinds (`Hippocampal_Mask`, `Total_Intracranial_Volume_Brain_Mask`) are
neither images nor labels. A mask on another grid than its image is refused when it is stored. The 138 structures that Zhang et
al. use are not part of ADNI; name such files by a table (`module: csv`).
"""

from brainpretrain.datasets.base import CONVERTED, Dataset, Layout, Pattern, guess_sequence

SUBJECT, DAY = r"(?P<subject>\d{3}_S_\d{4,5})", r"(?P<session>\d{4}-\d{2}-\d{2})_[^/]+"
SERIES = rf"{SUBJECT}/(?P<sequence>[^/]+)/{DAY}/(?P<run>[^/]+)/"
SCALED = rf"{SUBJECT}/(?P<sequence>[^/]*_Scaled[^/]*)/{DAY}/(?P<run>[^/]+)/"
SCAN = r"[^/]*_(?P<scan>S\d+)_I\d+"
MASK = "MIDAS_Whole_Brain_Mask"

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
                Pattern(
                    image=SCALED + SCAN,
                    subset="train",
                    sequence=guess_sequence,
                    masks=rf"{SUBJECT}/{MASK}/{DAY}/[^/]+/{SCAN}",
                    partly=True,
                ),
                Pattern(image=SERIES + "[^/]+", subset="unlabelled", sequence=guess_sequence),
            ),
            examples=(
                "ADNI/002_S_0413/MPR__GradWarp__B1_Correction__N3__Scaled/2006-05-02_12_31_52.0/I40657/"
                "ADNI_002_S_0413_MR_MPR__GradWarp__B1_Correction__N3__Scaled_S13893_I40657.nii",
                f"ADNI/002_S_0413/{MASK}/2006-05-02_12_31_52.0/I284658/"
                f"ADNI_002_S_0413_MR_{MASK}_Br_20120214130507765_S13893_I284658.nii",
                "ADNI/002_S_0413/Axial_FLAIR/2017-06-21_13_23_38.0/I863054/ADNI_002_S_0413_MR_Axial_FLAIR_I863054.nii",
            ),
            unused=(r".*\.(?:dcm|xml|json|tsv)", rf"(?:.+/)?(?!{MASK}/)[^/]*_Mask/[^/]+/[^/]+/[^/]+"),
        ),
    ),
    labels={1: "brain"},
    label_sequences=("T1w",),
    expected={"subjects": 1563, "volumes": 9548},
    brains45k={"subjects": 1563, "sessions": 8019, "volumes": 9548},
    n_shards=38,
    versions=("train", "unlabelled"),
)
