"""Segmentations as a BIDS derivative dataset: names, sidecars, the table of classes, and the description of the dataset.

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
SOURCE = "raw"  # how BIDS URIs call the dataset of the images

_NAME = re.compile(r"(?P<entities>sub-[a-zA-Z0-9+]+(_[a-z]+-[a-zA-Z0-9+]+)*)_[a-zA-Z0-9]+\.nii(\.gz)?")


def entities(image: Path) -> dict[str, str]:
    """Entities of a BIDS file name, in its order: `sub-01_ses-1_T1w.nii.gz` gives sub 01, ses 1.

    Raises:
        UserError: it is no such name.
    """
    match = _NAME.fullmatch(image.name)
    if not match:
        raise UserError("no BIDS file name", where=image, fix="call it sub-<label>_<sequence>.nii.gz, or leave out --bids")
    return dict(part.split("-", 1) for part in match["entities"].split("_"))


def place(found: Mapping[str, str]) -> Path:
    """Where the segmentation of an image with these entities lies in the dataset; `desc` is ours."""
    kept = {key: value for key, value in found.items() if key != "desc"} | {"desc": DESC}
    folders = [f"{key}-{kept[key]}" for key in ("sub", "ses") if key in kept]
    name = "_".join(f"{key}-{value}" for key, value in kept.items())
    return Path(*folders, "anat", f"{name}_dseg.nii.gz")


def label(text: str) -> str:
    """A subject or session of any data set as a BIDS label: letters and digits, without `sub-` or `ses-`."""
    return re.sub(r"[^a-zA-Z0-9]", "", re.sub(r"^(sub|ses)-", "", text))


def root(image: Path) -> Path:
    """The dataset that an image lies in: the folder above `sub-<label>`, else its own folder."""
    image = image.absolute()
    return next((folder.parent for folder in image.parents if folder.name.startswith("sub-")), image.parent)


def uri(image: Path, source: Path) -> str:
    """BIDS URI of an image in the dataset `source`."""
    return f"bids:{SOURCE}:{image.absolute().relative_to(source.absolute()).as_posix()}"


def describe(out: Path, facts: Mapping[str, Any], commit: str, source: Mapping[str, str], link: str) -> None:
    """Writes dataset_description.json, README.md and the table of classes, or finds equal ones there.

    Args:
        out: the dataset.
        facts: of the model.
        commit: of the code that predicts.
        source: entry of SourceDatasets, such as {"URL": ...}.
        link: where the dataset lies that `bids:raw:` means.

    Raises:
        UserError: `out` is another dataset, or holds the segmentations of another model.
    """
    written = {
        "Name": f"Segmentations by the model {facts['name']}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainpretrain", "Version": release(commit), "Description": f"model {facts['name']}"}],
        "SourceDatasets": [dict(source)],
        "DatasetLinks": {SOURCE: link},
    }
    path = out / "dataset_description.json"
    if path.exists() and read_json(path) != written:
        raise UserError(
            "this folder is a dataset of other images, of another model or of another version",
            where=path,
            fix="give another --out",
        )
    classes(out / CLASSES, facts["task"]["labels"])
    with atomic(out / "README.md") as temporary:
        temporary.write_text(
            f"Segmentations that brainpretrain {release(commit)} predicted with the model `{facts['name']}`.\n\n"
            f"`{CLASSES}` names the values of the voxels; the `.json` beside a segmentation says what it was made from.\n",
            encoding="utf-8",
        )
    write_json(path, written)


def classes(path: Path, labels: Mapping[str, Sequence[int]]) -> None:
    """Writes what the values of the segmentations mean: columns index and name. 0 is the background.

    Raises:
        UserError: a table of other classes is there.
    """
    rows = [{"index": values[0], "name": name} for name, values in sorted(labels.items(), key=lambda label: label[1][0])]
    lines = ["index\tname", *(f"{row['index']}\t{row['name']}" for row in rows)]
    if path.exists() and path.read_text(encoding="utf-8").splitlines() != lines:
        raise UserError("segmentations with other classes are in this folder", where=path, fix="give another --out")
    write_tsv(path, rows, ["index", "name"])


def release(commit: str) -> str:
    """Version of the program, with the commit where it is known."""
    return version("brainpretrain") + (f"+{commit}" if commit else "")


def sidecar(facts: Mapping[str, Any], model_sha256: str, window: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    """What is to be known of one segmentation, beside it as JSON.

    Args:
        facts, model_sha256: of the model and its tensors.
        window: settings of the sliding window; `batch`, which changes speed and memory alone, is left out.
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
