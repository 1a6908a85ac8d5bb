"""OASIS-4: sessions as the official script arranges them, with the selection of scans of BRAINS-45K."""

from brainpretrain.datasets.base import Pattern, guess_sequence, oasis

# The scan types of XNAT. BRAINS-45K leaves out fMRI only, so asl and fieldmap count where they are 3-D.
SCANS = ("T1w", "T2w", "FLAIR", "T2star", "swi", "GRE", "minIP", "dwi", "angio", "asl", "fieldmap")

DATASET = oasis(
    4,
    scans=SCANS,
    pattern=Pattern(
        image=(
            r"(?P<subject>OAS4\d{4})_MR_(?P<session>d\d+)/"
            r"(?P<run>(?P<series>[^/]+))/(?:NIFTI/)?(?P<run_file>(?P<sequence>[^/]+))"
        ),
        subset="unlabelled",
        sequence=guess_sequence,
        reject=("fmri", "func"),
    ),
    examples=(
        "OAS42001_MR_d3000/anat1/NIFTI/sub-OAS42001_ses-d3000_T1w.nii.gz",
        "OAS42001_MR_d3000/anat2/NIFTI/sub-OAS42001_ses-d3000_FLAIR.nii.gz",
    ),
    unused=(r".*\.json",),
    citation="Koenig et al., Select atrophied regions in Alzheimer disease, NeuroImage Clin 2020, doi:10.1016/j.nicl.2020.102248",
    expected={"subjects": 661, "volumes": 4021},
    brains45k={"subjects": 661, "sessions": 674, "volumes": 4021},
    n_shards=16,
)
