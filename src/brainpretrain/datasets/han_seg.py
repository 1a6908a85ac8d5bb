"""HaN-Seg: CT and T1w of the head and neck of 42 patients, NRRD that is converted before it is read; without labels.

The 30 organs are labelled on the CT, one file each, and CT and MR are not on the same grid. No label is read, since a task on the
T1w would need a registration first. The licence forbids sharing derived files. CT has values below 0, which the recipe `amaes`
rejects; use the recipe `ct`.
"""

from brainpretrain.datasets.base import CONVERTED, Archive, Dataset, Layout, Pattern

CASE = f"{CONVERTED}/HaN-Seg/set_1/case_01/case_01"

DATASET = Dataset(
    name="han_seg",
    title="HaN-Seg",
    access="auto",
    page="https://zenodo.org/records/7442914",
    licence="CC BY-NC-ND 4.0",
    licence_url="https://creativecommons.org/licenses/by-nc-nd/4.0/",
    citation="Podobnik et al., Med Phys 2023, doi:10.1002/mp.16197",
    redistribution=False,
    archives=(
        Archive(
            name="HaN-Seg.zip",
            url="https://zenodo.org/records/7442914/files/HaN-Seg.zip",
            sha256="20226dd717f334dc1b1afe961b3375f946fa56b64a80bf5349128f90c0bbfa5f",
        ),
    ),
    layouts=(
        Layout(
            name="NRRD, converted",
            patterns=(
                Pattern(
                    image=rf"{CONVERTED}/(?:.+/)?(?P<subject>case_\d+)/case_\d+_IMG_(?P<sequence>CT|MR_T1)",
                    subset="unlabelled",
                    sequence={"CT": "CT", "MR_T1": "T1w"},
                    required=("CT", "T1w"),
                ),
            ),
            examples=(f"{CASE}_IMG_CT.nii.gz", f"{CASE}_IMG_MR_T1.nii.gz"),
            unused=(r".*\.nrrd",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected={"subjects": 42, "volumes": 84},
    n_shards=1,
    source_format="nrrd",
    convert=r".*_IMG_[^/]+",
)
