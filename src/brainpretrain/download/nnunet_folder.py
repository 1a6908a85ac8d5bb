"""What dataset.json of nnU-Net's raw data and of the Medical Segmentation Decathlon says about a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import Dataset
from brainpretrain.download.index import channels_of
from brainpretrain.errors import UserError
from brainpretrain.preprocess.nifti import BadVolume, read_header

IGNORE = "ignore"  # nnU-Net's name for the value of voxels that nobody annotated
# sequences for the free names of channels in nnU-Net, in lower case
CHANNELS = {"t1": "T1w", "t1w": "T1w", "t1gd": "T1ce", "t1ce": "T1ce", "t1c": "T1ce", "t2": "T2w", "t2w": "T2w",
            "flair": "FLAIR", "dwi": "DWI", "adc": "ADC", "pd": "PDw", "swi": "SWI", "ct": "CT"}  # fmt: skip


def options(folder: Path, volumes: list[str]) -> dict[str, Any]:
    """The options for channels and labels of dataset.json, in the form of nnU-Net 1 or 2.

    Raises:
        UserError: dataset.json cannot be read.
    """
    stated = _read(folder)
    try:
        channels = stated.get("channel_names") or stated.get("modality") or {}
        names = [str(channels[key]) for key in sorted(channels, key=int)]
        labels = _labels(stated)
    except (ValueError, AttributeError, TypeError) as error:
        raise _unreadable(folder, error) from error
    found: dict[str, Any] = {"sequences": [CHANNELS.get(name.lower(), name) for name in names] or ["unknown"]}
    if labels and not _regions(stated):  # a region has values without a name, and a label file may hold named values only
        found["labels"] = labels
    if any(path.startswith("labelsTs/") for path in volumes):
        found["test_labels"] = True
    return found


def names(folder: Path) -> dict[int, str]:
    """The names of the labels by value, without background and regions."""
    return _labels(_read(folder))


def ignored(folder: Path) -> list[int]:
    """The value of the label `ignore`, as a list; empty without one."""
    return [value for value, name in _labels(_read(folder)).items() if name.lower() == IGNORE]


def remarks(folder: Path) -> list[str]:
    """A remark on the label `ignore`, and for each label of dataset.json that is a region, that is a list of values."""
    stated = _read(folder)
    return [
        f"value {value} is nnU-Net's ignore label and no class: write `ignore: [{value}]` in the task"
        for value in ignored(folder)
    ] + [
        f"label '{name}' is a region (values {', '.join(map(str, values))}) and is left out, since classes must not overlap"
        for name, values in _regions(stated).items()
    ]


def disagreement(dataset: Dataset, folder: Path, volumes: list[str]) -> str:
    """Why a folder whose names are those of a known data set is another one, by dataset.json and by the first 4-D file; or ''."""
    channels = channels_of(dataset, volumes)
    if not channels:
        return ""
    path, names = channels
    if len(names) > 1:
        try:
            header = read_header(folder / path)
        except (BadVolume, UserError, OSError):
            return ""  # reported later, as a problem of this file
        size = int(header["dim"][4]) if int(header["dim"][0]) > 3 else 1
        if size != len(names):
            return f"{path} has {size} channel{'s' * (size > 1)}, not {len(names)}"
    try:
        stated = _read(folder)
        modality = stated.get("channel_names") or stated.get("modality") or {}
        values = set(_labels(stated))
    except (UserError, ValueError, AttributeError, TypeError):
        return ""
    if modality and len(modality) != len(names):
        return f"dataset.json names {len(modality)} channels, not {len(names)}"
    if values and values != set(dataset.labels):
        return f"dataset.json names the label values {sorted(values)}, not {sorted(dataset.labels)}"
    return ""


def _read(folder: Path) -> dict[str, Any]:
    try:
        stated = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error
    if not isinstance(stated, dict):
        raise _unreadable(folder, "it is not an object")
    return stated


def _unreadable(folder: Path, error: object) -> UserError:
    return UserError(f"dataset.json cannot be read: {error}", where=folder / "dataset.json", fix="correct it")


def _labels(stated: dict[str, Any]) -> dict[int, str]:
    """Names by value, without background and regions; written as `name: value` or, before nnU-Net 2, `value: name`."""
    pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in stated.get("labels", {}).items()]
    return dict(sorted((int(value), str(name)) for value, name in pairs if not isinstance(name, list) and int(value) > 0))


def _regions(stated: dict[str, Any]) -> dict[str, list[int]]:
    return {name: values for name, values in stated.get("labels", {}).items() if isinstance(values, list)}
