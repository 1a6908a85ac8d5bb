"""OASIS-1 as the OASIS project released it: T1w in atlas space with and without skull, and FAST's tissue classes of the latter.

Each session has an average of its scans in the atlas space of Talairach and Tournoux at 1 mm, a subset of its own for each
version: `orig` with the head (`*_t88_gfc`) and `norm` with the brain alone (`*_t88_masked_gfc`); both are corrected for their
gain field. The label is `FSL_SEG/*_fseg` on the same grid: 1 CSF, 2 grey and 3 white matter, by FSL's FAST (in FAST's order of
brightness). A corpus may take both versions, a task takes one of them (`subsets: [orig]`). The 20 reliability sessions are
`MR2` of their subjects. The single scans (`RAW/`) and the averages in the subject's own space (`SUBJ_111/`) are not used.

The files are Analyze pairs, which `fetch` converts. Analyze states no orientation: axes are taken to go to left or right, front
and up, and which of the sides is which is not known. The layout is that of public code for the release; no file of it was at
hand. The subjects are those of `oasis1`, where `OAS1_0001` is `OASIS_OAS1_0001`; OASIS-TRT-20 are 20 of them.
"""

from brainpretrain.datasets.base import CONVERTED, Archive, Dataset, Layout, Pattern

VERSIONS = {"orig": "t88_gfc", "norm": "t88_masked_gfc"}
SESSION = r"(?P<subject>OAS1_\d{4})_(?P<session>MR\d)"
EXAMPLE = f"{CONVERTED}/disc1/OAS1_0001_MR1"
DISC = "https://download.nrg.wustl.edu/data/oasis_cross-sectional_disc{}.tar.gz"

DATASET = Dataset(
    name="oasis1_fsl",
    title="OASIS-1 (OASIS project), tissue classes",
    access="auto",
    page="https://sites.wustl.edu/oasisbrains/home/oasis-1/",
    licence="OASIS data use agreement",
    licence_url="https://sites.wustl.edu/oasisbrains/home/access/",
    citation="Marcus et al. (OASIS-1), J Cogn Neurosci 2007, doi:10.1162/jocn.2007.19.9.1498",
    redistribution=False,
    archives=tuple(
        Archive(
            name=DISC.format(number).rpartition("/")[2],
            url=DISC.format(number),
            md5="c83e216ef8654a7cc9e2a30a4cdbe0cc" if number == 1 else None,
        )
        for number in range(1, 13)
    ),
    layouts=(
        Layout(
            name="discs, converted",
            patterns=tuple(
                Pattern(
                    image=rf"(?P<folder>{CONVERTED}/(?:.+/)?){SESSION}/PROCESSED/MPRAGE/T88_111/"
                    rf"(?P<stem>OAS1_\d{{4}}_MR\d_mpr_n\d+_anon_111)_(?P<run>{ending})",
                    subset=version,
                    sequence="T1w",
                    label="{top}{folder}{subject}_{session}/FSL_SEG/{stem}_t88_masked_gfc_fseg",
                )
                for version, ending in VERSIONS.items()
            ),
            examples=(
                *(f"{EXAMPLE}/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_{end}.nii.gz" for end in VERSIONS.values()),
                f"{EXAMPLE}/FSL_SEG/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc_fseg.nii.gz",
            ),
            unused=(r"(?:.+/)?OAS1_\d{4}_MR\d/.*\.(?:img|hdr|ifh|rec|gif|txt|xml)",),
        ),
    ),
    labels={1: "CSF", 2: "grey_matter", 3: "white_matter"},
    label_sequences=("T1w",),
    expected={"subjects": 416, "volumes": 872},
    n_shards=4,
    versions=tuple(VERSIONS),
    persons=str,
    source_format="analyze",
    convert=r".*/(?:PROCESSED/MPRAGE/T88_111/.*_t88(?:_masked)?_gfc|FSL_SEG/.*_fseg)\.img",
)
