"""OASIS-3: sessions as the official script arranges them, with the selection of scans of BRAINS-45K."""

from brainpretrain.datasets.base import Pattern, oasis

# The scan types of XNAT, without time series and without asl and fieldmap, which the selection below leaves out.
SCANS = ("T1w", "T2w", "FLAIR", "T2star", "swi", "GRE", "minIP", "dwi", "angio")
SUFFIXES = {
    "T1w": "T1w",
    "T2w": "T2w",
    "FLAIR": "FLAIR",
    "T2star": "T2starw",
    "T2starw": "T2starw",
    "GRE": "T2starw",
    "swi": "SWI",
    "minIP": "minIP",
    "dwi": "DWI",
    "angio": "angio",
}

DATASET = oasis(
    3,
    scans=SCANS,
    pattern=Pattern(
        image=(
            r"(?P<subject>OAS3\d{4})_MR_(?P<session>d\d+)/(?P<run>(?P<series>[^/]+))/"
            r"(?:[^/]+/)*sub-[^_/]+_sess?-[^_/]+(?P<run_entities>(?:_[a-z]+-[A-Za-z0-9]+)*)"
            r"_(?P<sequence>[A-Za-z0-9]+)"
        ),
        subset="unlabelled",
        sequence=lambda suffix: SUFFIXES.get(suffix, "unknown"),
        accept=("t1", "t2", "mprage", "flair", "gre", "dwi", "swi", "grappa", "anat"),
        reject=("fmri", "func"),
    ),
    examples=(
        "OAS30001_MR_d0129/anat1/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
        "OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-02_T1w.nii.gz",
        "OAS30001_MR_d0757/anat1/sub-OAS30001_ses-d0757_FLAIR.nii.gz",
    ),
    unused=(r".*\.json", r"(?:.+/)?0AS_data_files/.+"),
    citation="LaMontagne et al., OASIS-3, medRxiv 2019, doi:10.1101/2019.12.13.19014902",
    expected={"subjects": 1376, "volumes": 15872},
    brains45k={"subjects": 1376, "sessions": 2839, "volumes": 15872},
    n_shards=62,
)
