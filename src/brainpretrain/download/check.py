"""Recognises the format of a folder of volumes (a known data set, BIDS, nnU-Net, or a table) and writes the YAML for it."""

from __future__ import annotations

import csv
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from brainpretrain import datasets
from brainpretrain.datasets.base import EXTENSIONS, Dataset, Scan, some
from brainpretrain.datasets.own import bids
from brainpretrain.datasets.own.csv import separator
from brainpretrain.download import first_study, labels, nnunet_folder
from brainpretrain.download.convert import FORMATS
from brainpretrain.download.index import excluded_lines, list_files, recognises, scan, to_fetch
from brainpretrain.download.judging import Judged, judge_rows
from brainpretrain.errors import UserError
from brainpretrain.preprocess.headers import BadVolume, Limits

PROBED = 2000  # number of files that are compared with the layouts of all data sets
PRINTED = 20  # largest number of problems, and of remarks, in the report
SHOWN = 12  # largest number of sequences, subsets and labels in the report
VOLUMES_PER_SHARD = 256
OWN = "mydata"  # name of own data in the YAML
LIMITS = {"max_voxels": 400_000_000, "spacing_range_mm": (0.05, 20), "min_size": 15}  # those of the recipe `amaes`


def check(folder: Path | str, recipe: Mapping[str, Any] = LIMITS) -> dict[str, Any]:
    """Describes a folder of volumes, or a table of paths. It reads the header of every file, and of voxels those of own labels.

    Args:
        recipe: the preprocess recipe by whose limits the headers are judged.

    Returns:
        - folder; format (in words); module and options for the YAML; layout
        - volumes, subjects, sessions, sites, labelled: counts
        - sequences and subsets: counts by name; labels: names by value, if stated
        - spacing_mm and shape: lowest and highest value of each axis
        - unexpected (unused files), left_out (count), excluded (volumes by the reason), dangling (broken links)
        - labels_read: number of label files whose voxels were read; labels_unused: unused label files of BIDS, with reasons
        - opened: number of files whose header was read (all that the data set uses)
        - problems and remarks: texts, as `shard` will say them
        - yaml: lines to paste into a config; study: whether these lines are a whole study, which needs labels

    Raises:
        UserError: no format is recognised; the message says which ones would be.
    """
    seen = survey(folder, recipe)
    files, judged, found, dataset = seen.files, seen.judged, seen.found, seen.dataset
    remarks = judged.remarks + _other_formats(seen.root, files.unexpected)
    if seen.module == "nnunet":
        remarks += nnunet_folder.remarks(seen.root)
    count = {key: len({row[key] for row in files.rows} - {""}) for key in ("subject", "session", "site")}
    study = ""
    if seen.is_template:
        study = first_study.study(OWN, seen.module, seen.options, seen.root, files.rows, judged.grids, found.values, seen.ignored)
    return {
        "folder": str(Path(folder)),
        "format": seen.words,
        "module": seen.module,
        "options": seen.options,
        "layout": files.layout,
        "volumes": len(files.rows),
        "subjects": count["subject"],
        "sessions": len({(row["subject"], row["session"]) for row in files.rows}),
        "sites": count["site"],
        "labelled": sum(bool(row["label"]) for row in files.rows),
        "sequences": dict(sorted(Counter(row["sequence"] for row in files.rows).items())),
        "subsets": dict(sorted(Counter(row["subset"] for row in files.rows).items())),
        "labels": {str(value): name for value, name in dataset.labels.items()},
        "spacing_mm": _ranges([[round(mm, 4) for mm in grid.spacing_mm] for grid in judged.grids]),
        "shape": _ranges([list(grid.shape) for grid in judged.grids]),
        "opened": judged.opened,
        "labels_read": found.read,
        "labels_unused": found.unused,
        "unexpected": files.unexpected,
        "left_out": len(files.left_out),
        "excluded": files.by_reason(),
        "dangling": files.dangling,
        "problems": seen.problems + judged.problems,
        "remarks": remarks,
        "study": bool(study),
        "yaml": study or _yaml(seen.root, dataset, seen.module, seen.options),
    }


@dataclass
class Found:
    """Labels of own data: options to add, names by value, number of files that were read, and unused files with reasons."""

    options: dict[str, Any] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)
    read: int = 0
    unused: list[str] = field(default_factory=list)


@dataclass
class Survey:
    """What a folder of volumes is, from its names, its headers, and the voxels of own labels.

    Attributes:
        root: the folder.
        words: its format, in words.
        module, options: of the data set.
        dataset: its description.
        files: what the index lists.
        found: labels of own data.
        judged: what the headers say.
        problems: why the index cannot be made.
    """

    root: Path
    words: str
    module: str
    options: dict[str, Any]
    dataset: Dataset
    files: Scan
    found: Found
    judged: Judged
    problems: list[str]

    @property
    def is_template(self) -> bool:
        """True for data of one's own, False for a data set that has a module."""
        return self.module in datasets.TEMPLATES

    @property
    def values(self) -> dict[int, str]:
        """Names of the values of the labels."""
        return self.found.values or dict(self.dataset.labels)

    @property
    def ignored(self) -> list[int]:
        """Values of the labels that are no class."""
        return nnunet_folder.ignored(self.root) if self.module == "nnunet" else sorted(self.dataset.ignore)


def survey(folder: Path | str, recipe: Mapping[str, Any] = LIMITS) -> Survey:
    """Recognises a folder of volumes, or a table of paths, and reads what `Survey` holds.

    Raises:
        UserError: no format is recognised.
    """
    folder = Path(folder)
    root = folder.parent if folder.is_file() else folder
    words, module, options = _format(folder)
    dataset = datasets.describe(module, options)
    problems: list[str] = []
    found = Found()
    try:
        files = scan(dataset, root)
        found = _labels(root, module, options, files)
        if found.options:
            options = options | found.options
            dataset = datasets.describe(module, options)
            files = scan(dataset, root)
    except UserError as error:
        files, problems = Scan("", [], [], []), [str(error)]
    limits = Limits.of(dict(recipe) | ({"min_size": 1} if dataset.whole else {}))
    judged = judge_rows(root, files.rows, limits, selected=module not in datasets.TEMPLATES)
    if module in datasets.TEMPLATES:
        options = options | {"n_shards": max(1, math.ceil(len(files.rows) / VOLUMES_PER_SHARD))}
    return Survey(root, words, module, options, dataset, files, found, judged, problems)


def report(facts: Mapping[str, Any]) -> str:
    """The result of `check` as text."""
    lines = [f"{facts['folder']}: {facts['format']}" + (f", layout '{facts['layout']}'" if facts["layout"] else "")]
    counts = (f"{facts[key]:,} {key}" for key in ("subjects", "sessions", "volumes", "labelled"))
    lines.append("  " + ", ".join(counts))
    for key in ("sequences", "subsets", "labels"):
        if facts[key]:
            lines.append(f"  {key + ':':11}" + some([f"{name} {value}" for name, value in facts[key].items()], SHOWN))
    for key, unit in (("spacing_mm", "mm"), ("shape", "voxels")):
        if facts[key]:
            ranges = " x ".join(f"{low:g}" if low == high else f"{low:g}..{high:g}" for low, high in facts[key])
            lines.append(f"  {key.removesuffix('_mm') + ':':11}{ranges} {unit}")
    voxels = f"the voxels of {facts['labels_read']:,} labels were read" if facts["labels_read"] else "no voxel was read"
    lines.append(f"  headers:   {facts['opened']:,} files opened, images and labels; {voxels}")
    lines += [f"  labels not used, {text}" for text in facts["labels_unused"]]
    if facts["left_out"]:
        lines.append(f"  {facts['left_out']} volumes are excluded by the selection of series")
    lines += [f"  {line}" for line in excluded_lines(facts["excluded"])]
    if facts["unexpected"]:
        lines.append(f"  unused:    {some(facts['unexpected'])}")
    if facts["dangling"]:
        lines.append(f"  {to_fetch(facts['dangling'])}")
    for key in ("problems", "remarks"):
        if facts[key]:
            lines.append(f"  {len(facts[key])} {key if facts[key][1:] else key[:-1]}:")
            lines += [f"    {text}".replace("\n", "\n    ") for text in facts[key][:PRINTED]]
    use = "To use it, in config/datasets.yaml and config/config.yaml:"
    if facts["study"]:
        use = (
            f"A study from these files to a table. Save it as config/studies/{OWN}.yaml, then\n"
            f"  snakemake --profile local --config study={OWN}"
        )
    return "\n".join([*lines, use, "", facts["yaml"]])


# ------------------------------------------------------------------------------------------------ labels


def _labels(root: Path, module: str, options: Mapping[str, Any], files: Scan) -> Found:
    """Where the labels of a BIDS folder are; and the values of the labels, where nothing states them."""
    if module == "bids":
        chosen, unused = labels.find(root, list_files(root)[0], files.rows)
        return Found(chosen.options(), chosen.values, chosen.read, unused) if chosen else Found(unused=unused)
    if options.get("labels") or module not in datasets.TEMPLATES:
        return Found(values=dict(options.get("labels", {})))
    try:
        values, read = labels.read_values(root, {row["label"] for row in files.rows} - {""})
    except BadVolume:
        return Found()  # the header is judged next; the voxels, when the volume is stored
    names = nnunet_folder.names(root) if module == "nnunet" else {}
    return Found(values=values | {value: name for value, name in names.items() if value in values}, read=read)


# ------------------------------------------------------------------------------------------------ which format


def _format(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """Format in words, and module and options of the YAML, for a folder or table."""
    if folder.is_file() and folder.suffix in (".csv", ".tsv"):
        return "a table of paths", "csv", {"file": folder.name}
    if not folder.is_dir():
        raise UserError(
            "this is neither a folder nor a table (.csv, .tsv)" if folder.exists() else "there is no such folder or table",
            where=folder,
            fix="give the folder that holds the volumes",
        )
    files, dangling = list_files(folder)
    if tables := [path for path in files if path.endswith((".csv", ".tsv")) and "/" not in path and _is_list(folder / path)]:
        return "a table of paths", "csv", {"file": tables[0]}
    volumes = [path for path in (*files, *dangling) if path.endswith(EXTENSIONS)]
    step = max(1, len(volumes) // PROBED)
    similar = ""
    for name in datasets.names():
        dataset = datasets.load(name)
        if dataset.access == "embedded" or not recognises(dataset, volumes[::step]):
            continue
        if reason := nnunet_folder.disagreement(dataset, folder, volumes):
            similar = f"; the names are those of '{name}', but {reason}"
        else:
            return f"the data set '{name}' ({dataset.title})", name, {}
    if "dataset.json" in files and any(path.startswith("imagesTr/") for path in files):
        return "nnU-Net's raw data", "nnunet", nnunet_folder.options(folder, volumes)
    if recognises(bids.describe(), volumes[::step]):
        return "BIDS", "bids", _bids(folder)
    raise UserError(
        f"no format is recognised in {len(files)} files" + (f", such as {some(files, 3)}" if files else "") + similar,
        where=folder,
        fix=_hint(folder, files, volumes),
    )


def _hint(folder: Path, files: list[str], volumes: list[str]) -> str:
    """A fix for a folder in which no format is recognised."""
    nested = [path.removesuffix("/dataset.json") for path in files if re.fullmatch(r"[^/]+/dataset\.json", path)]
    if nested:
        return f"nnU-Net's raw data are one level down: check {folder / nested[0]}"
    if any(path.startswith("imagesTr/") for path in volumes):
        return "nnU-Net's raw data need a dataset.json with channel_names and labels: add it"
    if not volumes and any(path.lower().endswith(FORMATS) for path in files):
        return f"convert them to NIfTI first: brainpretrain convert {shlex.quote(str(folder))}"
    if not volumes and any(path.lower().endswith((".dcm", ".ima")) for path in files):
        return "convert DICOM to NIfTI first (dcm2niix)"
    return "arrange it as BIDS or nnU-Net's raw data, or list the volumes in a CSV with the columns subject, sequence, path"


def _other_formats(root: Path, unused: list[str]) -> list[str]:
    """A remark on volumes that are not NIfTI."""
    volumes = [path for path in unused if path.lower().endswith(FORMATS)]
    if not volumes:
        return []
    command = f"brainpretrain convert {shlex.quote(str(root))}"
    return [f"{len(volumes)} volumes are not NIfTI and are not read: {some(volumes)}; to convert them: {command}"]


def _is_list(table: Path) -> bool:
    """True if the first line of a CSV file names the columns that a list of volumes needs."""
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline()
    return {"subject", "sequence", "path"} <= set(next(csv.reader([first], delimiter=separator(first)), []))


def _bids(folder: Path) -> dict[str, Any]:
    """The option `sequences` of a BIDS folder: those that its raw images have."""
    try:
        present = {
            row["path"].removesuffix(".gz").removesuffix(".nii").rpartition("_")[2] for row in scan(bids.describe(), folder).rows
        }
    except UserError:
        present = set(bids.SEQUENCES)
    return {"sequences": {suffix: name for suffix, name in bids.SEQUENCES.items() if suffix in present}}


# ------------------------------------------------------------------------------------------------ YAML


def _ranges(values: list[list[Any]]) -> list[list[Any]]:
    """Lowest and highest value of each axis."""
    return [[min(axis), max(axis)] for axis in zip(*values, strict=True)]


def _yaml(root: Path, dataset: Dataset, module: str, options: dict[str, Any]) -> str:
    name = module if module not in datasets.TEMPLATES else OWN
    entry = (
        "" if module == name else yaml.safe_dump({"datasets": {name: {"module": module, "options": options}}}, sort_keys=False)
    )
    return entry + yaml.safe_dump({"data_roots": {name: str(root.resolve())}})
