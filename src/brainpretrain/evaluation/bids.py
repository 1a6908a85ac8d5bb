"""Segmentations as a BIDS derivative dataset: file names, sidecars, the table of classes and the dataset description.

dataset_description.json  README.md  desc-pred_dseg.tsv
sub-01/ses-1/anat/sub-01_ses-1_desc-pred_dseg.nii.gz|json
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, write_json, write_tsv

BIDS_VERSION = "1.10.0"
DESC = "pred"
CLASSES = f"desc-{DESC}_dseg.tsv"
SOURCE = "raw"  # name of the dataset of the images in BIDS URIs

_NAME = re.compile(r"(?P<entities>sub-[a-zA-Z0-9+]+(_[a-z]+-[a-zA-Z0-9+]+)*)_[a-zA-Z0-9]+\.nii(\.gz)?")


def entities(image: Path) -> dict[str, str]:
    """Entities of a BIDS file name, in the order of the name: `sub-01_ses-1_T1w.nii.gz` gives sub 01, ses 1.

    Raises:
        UserError: the file does not have a BIDS name.
    """
    match = _NAME.fullmatch(image.name)
    if not match:
        raise UserError("no BIDS file name", where=image, fix="call it sub-<label>_<sequence>.nii.gz, or leave out --bids")
    return dict(part.split("-", 1) for part in match["entities"].split("_"))


def place(image_entities: Mapping[str, str]) -> Path:
    """Path in the dataset of the segmentation of an image with these entities; its `desc` is replaced by `pred`."""
    kept = {key: value for key, value in image_entities.items() if key != "desc"} | {"desc": DESC}
    folders = [f"{key}-{kept[key]}" for key in ("sub", "ses") if key in kept]
    name = "_".join(f"{key}-{value}" for key, value in kept.items())
    return Path(*folders, "anat", f"{name}_dseg.nii.gz")


def sidecar_of(segmentation: Path) -> Path:
    """Path of the JSON sidecar of a `.nii.gz` file."""
    return segmentation.with_name(segmentation.name.removesuffix(".nii.gz") + ".json")


def label(name: str) -> str:
    """The name of a subject or session of any data set as a BIDS label: letters and digits, without `sub-` or `ses-`."""
    return re.sub(r"[^a-zA-Z0-9]", "", re.sub(r"^(sub|ses)-", "", name))


def root(image: Path) -> Path:
    """The dataset of an image: the folder that contains `sub-<label>`, else the folder of the image."""
    image = image.absolute()
    return next((folder.parent for folder in image.parents if folder.name.startswith("sub-")), image.parent)


def uri(image: Path, source: Path) -> str:
    """BIDS URI of an image in the dataset `source`."""
    return f"bids:{SOURCE}:{image.absolute().relative_to(source.absolute()).as_posix()}"


def describe(out: Path, facts: Mapping[str, Any], commit: str, source: Mapping[str, str], link: str) -> None:
    """Writes dataset_description.json, README.md and the table of classes. Files that exist must have the same content.

    Args:
        out: folder of the dataset.
        facts: the model's facts.
        commit: Git commit of the program that predicts.
        source: entry of SourceDatasets, such as {"URL": ...}.
        link: path or address of the dataset that `bids:raw:` refers to.

    Raises:
        UserError: `out` contains another dataset, or segmentations by another model.
    """
    description = {
        "Name": f"Segmentations by the model {facts['name']}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainpretrain", "Version": release(commit), "Description": f"model {facts['name']}"}],
        "SourceDatasets": [dict(source)],
        "DatasetLinks": {SOURCE: link},
    }
    path = out / "dataset_description.json"
    if path.exists() and read_json(path) != description:
        raise UserError(
            "this folder is a dataset of other images, of another model or of another version",
            where=path,
            fix="give another --out",
        )
    write_classes(out / CLASSES, facts["task"]["labels"])
    with atomic(out / "README.md") as temporary:
        temporary.write_text(
            f"Segmentations that brainpretrain {release(commit)} predicted with the model `{facts['name']}`.\n\n"
            f"`{CLASSES}` names the values of the voxels; the `.json` file of a segmentation records the images and the model.\n",
            encoding="utf-8",
        )
    write_json(path, description)


def write_classes(path: Path, labels: Mapping[str, Sequence[int]]) -> None:
    """Writes the table of the values of the segmentations, with columns index and name. 0 is the background.

    Args:
        labels: by name of a class, its values in the label files; segmentations have the first one.

    Raises:
        UserError: the file exists and lists other classes.
    """
    rows = [{"index": values[0], "name": name} for name, values in sorted(labels.items(), key=lambda label: label[1][0])]
    lines = ["index\tname", *(f"{row['index']}\t{row['name']}" for row in rows)]
    if path.exists() and path.read_text(encoding="utf-8").splitlines() != lines:
        raise UserError("this folder contains segmentations with other classes", where=path, fix="give another --out")
    write_tsv(path, rows, ["index", "name"])


def release(commit: str) -> str:
    """Version of the program, followed by the commit if it is known."""
    return version("brainpretrain") + (f"+{commit}" if commit else "")


def sidecar(
    facts: Mapping[str, Any], model_sha256: str | Sequence[str], window: Mapping[str, Any], sources: Sequence[str]
) -> dict[str, Any]:
    """Content of the JSON sidecar of one segmentation.

    Args:
        facts: the model's facts.
        model_sha256: checksum of the model's tensors; of an ensemble that of each model.
        window: settings of the sliding window; `batch` is left out, since it changes speed and memory only.
        sources: the images, in the order of the channels.
    """
    return {
        "Description": f"Segmentation predicted with the model {facts['name']}",
        "Manual": False,
        "Sources": list(sources),
        "SpatialReference": sources[0],
        "Model": facts["name"],
        "ModelSHA256": model_sha256,
        "SlidingWindow": {key: value for key, value in window.items() if key != "batch"},
    }
