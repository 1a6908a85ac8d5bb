"""HaN-Seg: CT and T1w of the head and neck of 42 patients, NRRD that is converted before it is read, with 30 organs on the CT.

Each organ is a file of its own (`case_01_OAR_<organ>.seg.nrrd`), so the step `fetch` merges them into one label file for each
case (`nifti/.../case_01_OAR.nii.gz`, with `case_01_OAR.json` that lists its organs and the number of voxels in several masks).
The values are the places in the alphabetical list of the organs, as in public code for the challenge. Where masks overlap, the
smaller structure lies over the larger one: ORDER says which. An organ that a case lacks is background there. CT and MR are not
on the same grid, so a task is on the CT; one on the T1w would need a registration first. The licence forbids sharing derived
files. CT has values below 0, which the recipe `amaes` rejects; use the recipe `ct`. The names are known from public code that
reads the release; no file of it was at hand.
"""

from brainpretrain.datasets.base import CONVERTED, Archive, Dataset, Layout, Pattern, Structures

# Alphabetical: the place of an organ is its label value.
ORGANS = (
    "A_Carotid_L", "A_Carotid_R", "Arytenoid", "Bone_Mandible", "Brainstem", "BuccalMucosa", "Cavity_Oral", "Cochlea_L",
    "Cochlea_R", "Cricopharyngeus", "Esophagus_S", "Eye_AL", "Eye_AR", "Eye_PL", "Eye_PR", "Glnd_Lacrimal_L", "Glnd_Lacrimal_R",
    "Glnd_Submand_L", "Glnd_Submand_R", "Glnd_Thyroid", "Glottis", "Larynx_SG", "Lips", "OpticChiasm", "OpticNrv_L", "OpticNrv_R",
    "Parotid_L", "Parotid_R", "Pituitary", "SpinalCord",
)  # fmt: skip
# From the structure below all others to the one above all others: large before small, and soft tissue before what is inside it.
ORDER = (
    "Cavity_Oral", "BuccalMucosa", "Lips", "Bone_Mandible", "Parotid_L", "Parotid_R", "Brainstem", "SpinalCord", "Glnd_Thyroid",
    "Glnd_Submand_L", "Glnd_Submand_R", "Larynx_SG", "Glottis", "Esophagus_S", "Cricopharyngeus", "A_Carotid_L", "A_Carotid_R",
    "Eye_PL", "Eye_PR", "Arytenoid", "Eye_AL", "Eye_AR", "Glnd_Lacrimal_L", "Glnd_Lacrimal_R", "OpticNrv_L", "OpticNrv_R",
    "OpticChiasm", "Pituitary", "Cochlea_L", "Cochlea_R",
)  # fmt: skip
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
                    image=rf"(?P<folder>{CONVERTED}/(?:.+/)?)(?P<subject>case_\d+)/case_\d+_IMG_(?P<sequence>CT|MR_T1)",
                    subset="train",
                    sequence={"CT": "CT", "MR_T1": "T1w"},
                    label="{top}{folder}{subject}/{subject}_OAR",
                    required=("CT", "T1w"),
                ),
            ),
            examples=(f"{CASE}_IMG_CT.nii.gz", f"{CASE}_IMG_MR_T1.nii.gz", f"{CASE}_OAR.nii.gz"),
            unused=(r".*\.nrrd", rf"(?:.+/)?{CONVERTED}/.+_OAR\.json"),
        ),
    ),
    labels=dict(enumerate(ORGANS, start=1)),
    label_sequences=("CT",),
    expected={"subjects": 42, "volumes": 84},
    n_shards=1,
    source_format="nrrd",
    convert=r".*_IMG_[^/]+",
    structures=Structures(
        mask=r"(?P<case>(?:.+/)?case_\d+/case_\d+)_OAR_(?P<structure>[^/]+)\.seg\.nrrd",
        image="{case}_IMG_CT.nrrd",
        label="{case}_OAR",
        order=ORDER,
    ),
)
