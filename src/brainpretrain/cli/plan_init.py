"""The command `init`: from a folder of volumes to a study that runs. It reads headers, and may time a training step."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from nibabel.orientations import io_orientation

from brainpretrain import config, datasets
from brainpretrain.cli.arguments import arg, command
from brainpretrain.datasets.base import some
from brainpretrain.download.check import Survey, survey
from brainpretrain.errors import UserError, nearest
from brainpretrain.files import atomic
from brainpretrain.plan import proposal, tables
from brainpretrain.preprocess.headers import Grid
from brainpretrain.report import forecast
from brainpretrain.training import gpus

MINUTES_CPU = 10.0
SHOWN = 8  # classes in the summary
STARTUP_S = 12.0  # of a fine-tuning on a CPU, besides its steps: process, reading, prediction and scores of a small cohort


@command(
    "init",
    arg("--data", type=Path, required=True, metavar="FOLDER",
        help="labelled volumes: BIDS, nnU-Net's raw data, a table, or a data set that the project knows"),
    arg("--name", metavar="NAME", help="of the study, its file and its table (default: the folder's name)"),
    arg("--encoder", metavar="NAME", help="a released encoder (config/weights.yaml); without, one is pretrained on the folder"),
    arg("--gpu", type=float, metavar="GB", help="memory of the GPU that trains (default: that of this machine, else a CPU)"),
    arg("--minutes", type=float, metavar="N",
        help=f"for the whole study (default: {MINUTES_CPU:.0f} on a CPU; on a GPU the steps of AMAES)"),
    arg("--force", action="store_true", help="replace a study of this name"),
)  # fmt: skip
def init(args: argparse.Namespace) -> None:
    """Reads shapes, spacings and labels of a folder and writes config/studies/NAME.yaml: two arms, from scratch and pretrained,
    with equal augmentation, and the reason for every value. For a CPU, a training step is timed: the steps fit the minutes.

    Then: brainpretrain plan NAME, brainpretrain run NAME. It is given in the root of the repository.
    """
    if not Path("Snakefile").exists():
        raise UserError("there is no Snakefile here", where=Path.cwd(), fix="change to the root of the repository")
    name = _name(args.name) if args.name else _derived(args.data)
    path = Path("config/studies") / f"{name}.yaml"
    if path.exists() and not args.force:
        raise UserError("there is a study of this name", where=path, fix="give another --name, or --force to replace it")
    folder = _folder(survey(args.data), name)
    machine = _machine(args)
    encoder = _encoder(args.encoder) if args.encoder else None
    chosen = proposal.propose(folder, machine, encoder)
    if not machine.gpu_gb:
        chosen = proposal.timed(chosen, machine, _step_s(folder, chosen, machine, encoder), STARTUP_S, encoder is None)
    text = proposal.text(folder, chosen, machine, encoder)
    _read(name, text)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    classes = some(list(folder.classes.values()), SHOWN)
    print(f"{path}: {len(folder.subjects)} labelled subjects; {', '.join(folder.sequences)}; {classes}")
    for key in ("preprocess", "patch", "n_train", "steps"):
        if key in chosen.reasons:
            print(f"  {key + ':':12}{chosen.reasons[key]}")
    print(f"Next: brainpretrain plan {name}, then brainpretrain run {name}")


def _name(text: str) -> str:
    """A name for a study and its entries, as given.

    Raises:
        UserError: it has other characters than small letters, digits and underscores, or something has this name already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
        fix = "small letters, digits and underscores, a letter first: --name mystudy"
        raise UserError(f"'{text}' cannot be the name of a study", where="--name", fix=fix)
    if text in _taken():
        raise UserError(f"'{text}' is the name of an entry of config/ or of a step", where="--name", fix=f"--name my_{text}")
    return text


def _derived(folder: Path) -> str:
    """A name from that of a folder: 'Task04 Hippo' is task04_hippo, and my_task04_hippo if that is taken."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().stem.lower()).strip("_")
    return name if re.match(r"[a-z]", name) and name not in _taken() else f"my_{name or 'study'}"


def _taken() -> set[str]:
    """Names that a study and its entries cannot have: entries of config/, data sets, and steps of the workflow."""
    loaded = config.load()
    sections = (loaded.datasets, loaded.corpora, loaded.tasks, loaded.finetune, loaded.tables)
    steps = {
        name for file in Path("rules").glob("*.smk") for name in re.findall(r"^ *rule (\w+):", file.read_text(), re.MULTILINE)
    }
    return {name for section in sections for name in section} | steps | set(datasets.names()) | {"all"}


def _folder(seen: Survey, name: str) -> proposal.Folder:
    """What a survey of a folder says about its labelled volumes.

    Raises:
        UserError: the folder cannot be indexed, or no volume has a label.
    """
    if seen.problems:
        raise UserError("\n".join(seen.problems), where=seen.root, fix="correct them; `brainpretrain check` lists everything")
    labelled = [row for row in seen.files.rows if row["label"] and row["subset"] != "test"]
    if not labelled or not seen.judged.grids:
        problem = "no volume has a label" if not labelled else "no volume can be used: " + "; ".join(seen.judged.problems[:3])
        raise UserError(problem, where=seen.root, fix="`brainpretrain check` shows what was found and what is missing")
    subsets = sorted({row["subset"] for row in labelled})
    others = sorted({row["subset"] for row in seen.files.rows} - set(subsets) - {"test"})
    values = {value: title for value, title in seen.values.items() if value not in seen.ignored}
    return proposal.Folder(
        name=name,
        root=str(seen.root.resolve()),
        module=seen.module,
        options=seen.options if seen.is_template else None,
        subjects=sorted({row["patient"] or row["subject"] for row in labelled}),
        subsets=subsets,
        unlabelled=others,
        sequences=_sequences(labelled),
        classes=values,
        ignored=seen.ignored,
        extents_mm=[_extent_mm(grid) for grid in seen.judged.grids],
        spacings_mm=[min(grid.spacing_mm) for grid in seen.judged.grids],
    )


def _sequences(labelled: list[Any]) -> list[str]:
    """The sequences that every labelled subject has next to the same label; else the one that most have."""
    of_label: dict[str, set[str]] = {}
    for row in labelled:
        of_label.setdefault(row["label"], set()).add(row["sequence"])
    shared = set.intersection(*of_label.values())
    names = sorted({row["sequence"] for row in labelled})
    return sorted(shared) or [max(names, key=lambda one: sum(one in found for found in of_label.values()))]


def _extent_mm(grid: Grid) -> list[float]:
    """Extent of a volume along R, A, S."""
    extent = [0.0, 0.0, 0.0]
    for axis, n, mm in zip(io_orientation(grid.affine)[:, 0].astype(int), grid.shape, grid.spacing_mm, strict=True):
        extent[axis] = float(n * mm)
    return extent


def _machine(args: argparse.Namespace) -> proposal.Machine:
    memory = args.gpu
    if memory is None and gpus.visible(os.environ):
        import torch  # takes seconds, and a machine without a GPU needs no answer

        memory = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 0.0
    memory = memory or 0.0
    return proposal.Machine(memory, len(os.sched_getaffinity(0)), args.minutes or MINUTES_CPU)


def _encoder(name: str) -> proposal.Encoder:
    """A release of config/weights.yaml, with its first backbone.

    Raises:
        UserError: there is no such release.
    """
    loaded = config.load()
    if name not in loaded.weights:
        fix = nearest(name, list(loaded.weights))
        raise UserError(f"no released encoder '{name}'", where="--encoder", fix=fix)
    release = loaded.weights[name]
    spacing = loaded.preprocess[release.preprocess].spacing_mm
    return proposal.Encoder(
        name, next(iter(release.files)), release.preprocess, release.patch_size, max(spacing) if spacing else 1.0
    )


def _step_s(
    folder: proposal.Folder, chosen: proposal.Proposal, machine: proposal.Machine, encoder: proposal.Encoder | None
) -> float:
    """Seconds of a fine-tuning step on one core of this machine."""
    import torch  # takes seconds, and only the timing needs it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loaded = _read(folder.name, proposal.text(folder, chosen, machine, encoder))
        backbone = encoder.backbone if encoder else f"unet_{folder.name}"
        kind = forecast.Kind(backbone, "", tuple(chosen.patch_size), len(folder.classes) + 1)
        return forecast.time_step(loaded, kind) * chosen.batch
    finally:
        torch.set_num_threads(threads)


def _read(name: str, text: str) -> config.Config:
    """The config of a study that is not in its place yet.

    Raises:
        UserError: what planning refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return tables.make(config.load(overrides={"study": str(path)})).config
