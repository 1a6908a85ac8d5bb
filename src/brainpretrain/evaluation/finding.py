"""The cases in a folder of images: by BIDS names, by nnU-Net's names, by the sequence at the end of a name, or file by file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from brainpretrain.datasets.base import some
from brainpretrain.errors import UserError

NNUNET = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?")
BIDS = re.compile(r"(?P<stem>sub-[a-zA-Z0-9+]+(_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?")
NOT_RAW = ("desc", "space", "label")  # entities of derivatives


def cases(folder: Path, sequences: Sequence[str], participants: Sequence[str] = ()) -> list[list[Path]]:
    """The images of each case below a folder, in the order of the sequences of a model.

    Args:
        sequences: of the model.
        participants: labels of subjects of a BIDS folder, without `sub-`; none: all.

    Raises:
        UserError: there is no image; a case lacks a sequence, or has one twice; or a participant is not there.
    """
    files = sorted(path for path in folder.rglob("*.nii*") if path.name.endswith((".nii", ".nii.gz")) and path.is_file())
    if not files:
        raise UserError("there is no NIfTI file in this folder", where=folder, fix="give the folder of the images")
    if any(path.name.startswith("sub-") for path in files):
        return _of_bids(folder, files, sequences, participants)
    if participants:
        raise UserError("participants are chosen in a BIDS folder only", where=folder, fix="leave out --participant-label")
    if all(NNUNET.fullmatch(path.name) for path in files):
        return _of_nnunet(folder, files, sequences)
    return [[path] for path in files] if len(sequences) == 1 else _by_suffix(folder, files, sequences)


def output_name(image: Path) -> str:
    """Name of a segmentation: nnU-Net's `case_0000` becomes `case`, any other `name` becomes `name_dseg`."""
    match = NNUNET.fullmatch(image.name)
    return match["case"] if match else f"{image.name.removesuffix('.gz').removesuffix('.nii')}_dseg"


def _of_bids(folder: Path, files: Sequence[Path], sequences: Sequence[str], participants: Sequence[str]) -> list[list[Path]]:
    """The raw images of each subject and session; other entities, such as runs, make cases of their own."""
    wanted = {label.removeprefix("sub-") for label in participants}
    groups: dict[tuple[str, str], dict[str, list[Path]]] = {}
    seen = set()
    for path in files:
        match = BIDS.fullmatch(path.name)
        if not match or "derivatives" in path.relative_to(folder).parts[:-1] or match["suffix"] not in sequences:
            continue
        entities = dict(part.split("-", 1) for part in match["stem"].split("_"))
        if set(entities) & set(NOT_RAW):
            continue
        seen.add(entities["sub"])
        if not wanted or entities["sub"] in wanted:
            key = match["stem"] if len(sequences) == 1 else f"sub-{entities['sub']}_ses-{entities.get('ses', '')}"
            groups.setdefault((str(path.parent), key), {}).setdefault(match["suffix"], []).append(path)
    if missing := sorted(wanted - seen):
        fix = f"there are: {some(sorted(seen))}" if seen else f"the model reads {' '.join(sequences)}"
        raise UserError(f"no image of participant {some(missing)}", where=folder, fix=fix)
    return _complete(folder, {key: found for (_, key), found in sorted(groups.items())}, sequences)


def _of_nnunet(folder: Path, files: Sequence[Path], sequences: Sequence[str]) -> list[list[Path]]:
    groups: dict[str, dict[str, list[Path]]] = {}
    for path in files:
        match = NNUNET.fullmatch(path.name)
        assert match
        number = int(match["channel"])
        name = sequences[number] if number < len(sequences) else f"channel {number}"
        groups.setdefault(match["case"], {}).setdefault(name, []).append(path)
    extra = sorted({name for found in groups.values() for name in found} - set(sequences))
    if extra:
        problem = f"the files have {some(extra)}, but the model reads {len(sequences)}: {' '.join(sequences)}"
        raise UserError(problem, where=folder, fix="take a model of these sequences, or leave the files of the others out")
    return _complete(folder, groups, sequences)


def _by_suffix(folder: Path, files: Sequence[Path], sequences: Sequence[str]) -> list[list[Path]]:
    groups: dict[str, dict[str, list[Path]]] = {}
    for path in files:
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        for sequence in sequences:
            if name.endswith(f"_{sequence}"):
                groups.setdefault(name.removesuffix(f"_{sequence}"), {}).setdefault(sequence, []).append(path)
    return _complete(folder, groups, sequences)


def _complete(folder: Path, groups: dict[str, dict[str, list[Path]]], sequences: Sequence[str]) -> list[list[Path]]:
    """The images of each group in the order of the sequences.

    Raises:
        UserError: there is no group, or one lacks a sequence or has one twice.
    """
    if not groups:
        fix = f"names must end in {' or '.join('_' + name for name in sequences)}, or in nnU-Net's _0000"
        raise UserError(f"no image of {' '.join(sequences)} is recognised by its name", where=folder, fix=fix)
    problems = []
    for key, found in groups.items():
        problems += [f"{key}: no {name}" for name in sequences if name not in found]
        problems += [f"{key}: {len(found[name])} files of {name}" for name in sequences if len(found.get(name, [])) > 1]
    if problems:
        fix = "give the cases one by one, the files of a case joined by commas"
        raise UserError("cases are not complete:\n  " + "\n  ".join(problems[:20]), where=folder, fix=fix)
    return [[found[name][0] for name in sequences] for found in groups.values()]
