"""The embedded data set: synthetic volumes in a BIDS-like tree, generated from a seed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain.datasets.base import Dataset, Layout, Pattern
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, stable_hash, write_json

if TYPE_CHECKING:
    import nibabel as nib

    from brainpretrain.preprocess.synthetic import Recipe

REVISION = 1  # raise it when the same arguments give other voxels
STATE = "phantom.json"
NOTICE = "Synthetic volumes made by brainpretrain from the ICBM152 2009a maps. No patient, no measurement."

DATASET = Dataset(
    name="phantom",
    title="Synthetic phantom from the ICBM152 maps",
    access="embedded",
    page="https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/",
    licence="ICBM152 licence: use, copy and redistribution with its notice",
    licence_url="https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/",
    citation="Fonov et al., Unbiased average age-appropriate atlases, NeuroImage 2011, "
    "doi:10.1016/j.neuroimage.2010.07.033; maps as carried by nilearn",
    redistribution=True,
    archives=(),
    layouts=(
        Layout(
            name="phantom",
            patterns=(
                Pattern(
                    image=r"(?P<subject>sub-\d+)/anat/sub-\d+_(?P<sequence>[A-Za-z0-9]+)",
                    subset="train",
                    sequence=str,
                    label="{top}{subject}/anat/{subject}_{sequence}_dseg",
                ),
                Pattern(
                    image=r"(?P<subject>sub-u\d+)/anat/sub-u\d+_(?P<sequence>[A-Za-z0-9]+)",
                    subset="unlabelled",
                    sequence=str,
                ),
            ),
            examples=(
                "sub-001/anat/sub-001_T1w.nii.gz",
                "sub-001/anat/sub-001_T1w_dseg.nii.gz",
                "sub-u001/anat/sub-u001_T1w.nii.gz",
            ),
        ),
    ),
    labels={1: "grey_matter", 2: "white_matter", 3: "lesion"},
    label_sequences=("T1w", "T2w", "FLAIR"),
    expected=None,
    n_shards=2,
)


def generate(
    root: Path | str,
    *,
    subjects: int,
    unlabelled_subjects: int,
    sequences: list[str],
    lesions_per_subject: tuple[int, int],
    seed: int,
    anatomy: Mapping[str, Any],
    grid: Mapping[str, Any],
    signal: Mapping[str, Any],
) -> int:
    """Writes the data set below `root`. The same arguments give the same bytes; if it exists already, nothing is written.

    Args:
        root: a folder that is empty, or that an earlier call has filled.
        subjects, unlabelled_subjects: number of subjects with labels (`sub-001` ...) and without (`sub-u001` ...).
        sequences: the sequences of each subject, from the keys of `signal.contrasts`.
        lesions_per_subject: lowest and highest number.
        seed: seed of all random numbers. A subject depends on the seed and on its own name, not on the number of subjects.
        anatomy, grid, signal: fields of the classes `Anatomy`, `Grid` and `Signal` in `preprocess.synthetic`.

    Returns:
        The number of volumes that were written; 0 if all existed.

    Raises:
        UserError: the arguments are not valid, or `root` holds files that are not part of a phantom.
    """
    options = {"lesions_per_subject": lesions_per_subject, "anatomy": anatomy, "grid": grid, "signal": signal}
    recipe = _recipe(options, sequences)
    arguments = {**recipe.model_dump(mode="json"), "seed": seed, "revision": REVISION}
    names = [f"sub-{n:03d}" for n in range(1, subjects + 1)]
    names += [f"sub-u{n:03d}" for n in range(1, unlabelled_subjects + 1)]
    plan = [path for name in names for sequence in sequences for path in _paths(name, sequence)]
    root = Path(root)
    if _is_current(root, arguments, plan):
        return 0
    _clear(root)
    state = {"notice": NOTICE, "arguments": arguments, "files": plan}
    write_json(root / STATE, {**state, "complete": False})
    for path, image in _volumes(names, sequences, seed, recipe):
        with atomic(root / path) as temporary:
            temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    write_json(root / STATE, {**state, "complete": True})
    return len(names) * len(sequences)


def _recipe(options: dict[str, Any], sequences: list[str]) -> Recipe:
    # Imported here and below, since nibabel and scipy are slow to import and a plan of jobs needs only DATASET.
    from pydantic import ValidationError

    from brainpretrain.preprocess.synthetic import Recipe

    try:
        recipe = Recipe.model_validate(options)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UserError("; ".join(problems), where="options of the phantom", fix="correct them") from error
    unknown = [name for name in sequences if name not in recipe.signal.contrasts]
    if unknown:
        contrasts = ", ".join(recipe.signal.contrasts)
        problem = f"no contrast for the sequences {', '.join(unknown)}"
        raise UserError(problem, where="options of the phantom", fix=f"add them to signal.contrasts, which has: {contrasts}")
    return recipe


def _paths(name: str, sequence: str) -> list[str]:
    """Path of the image, and for a labelled subject the path of the label."""
    stem = f"{name}/anat/{name}_{sequence}"
    return [f"{stem}.nii.gz"] + ([] if name.startswith("sub-u") else [f"{stem}_dseg.nii.gz"])


def _volumes(names: list[str], sequences: list[str], seed: int, recipe: Recipe) -> Iterator[tuple[str, nib.Nifti1Image]]:
    import numpy as np

    from brainpretrain.preprocess.synthetic import draw_subject, load_template, render

    template = load_template(max(1, int(recipe.grid.spacing_mm[0])))
    for name in names:
        subject = draw_subject(recipe, template, np.random.default_rng([seed, stable_hash(name)]))
        for sequence in sequences:
            rng = np.random.default_rng([seed, stable_hash(f"{name} {sequence}")])
            yield from zip(_paths(name, sequence), render(subject, sequence, recipe, template, rng), strict=False)


def _is_current(root: Path, arguments: dict[str, Any], plan: list[str]) -> bool:
    if not (root / STATE).exists():
        return False
    state = read_json(root / STATE)
    expected = {"notice": NOTICE, "arguments": arguments, "files": plan, "complete": True}
    return state == expected and all((root / path).exists() for path in plan)


def _clear(root: Path) -> None:
    """Removes the files of an earlier phantom, which the state file lists; refuses a folder with any other files."""
    if (root / STATE).exists():
        for path in read_json(root / STATE)["files"]:
            (root / path).unlink(missing_ok=True)
    elif root.exists() and any(not path.name.startswith(".") for path in root.iterdir()):
        raise UserError("the folder is not empty and does not hold a phantom", where=root, fix="name another data root")
