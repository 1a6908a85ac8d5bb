"""A first study for a folder of one's own: every value with the reason for it, as YAML that runs as it is.

Nothing here reads a file. What the folder and the machine are is handed over as `Folder` and `Machine`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from brainpretrain.errors import UserError
from brainpretrain.files import is_drawn
from brainpretrain.plan.fairness import FEWEST_FOLDS, FEWEST_SEEDS
from brainpretrain.words import count

TEST_FRACTION = 0.25
MOST_CASES = 20  # for a training, of a first study
FEWEST_SUBJECTS = 6  # labelled: a test set, cases to train on, and cases to choose a learning rate on
COARSEST = 4  # voxels per axis that the deepest feature map keeps at least
LEVELS = (2, 5)
LESION = re.compile(r"lesion|wmh|stroke|infarct|tumou?r|metast|hyperintens", re.IGNORECASE)
RATES_CPU, RATES_GPU = [1.0e-3, 3.0e-3], [1.0e-4, 3.0e-4, 1.0e-3]


@dataclass(frozen=True)
class Folder:
    """The labelled volumes of a folder.

    Attributes:
        name: of data set, task and table.
        root: absolute path.
        module, options: the description of the data set; options are None for a data set that the project has a module for.
        subjects: labelled ones, patients where these are known.
        subsets: of the labelled volumes.
        unlabelled: subsets without labels, for pretraining alone.
        sequences: those that every labelled subject has.
        classes: value -> name.
        ignored: values that are no class.
        extents_mm: of each usable volume, along R, A, S.
        spacings_mm: the finest axis of each.
    """

    name: str
    root: str
    module: str
    options: Mapping[str, Any] | None
    subjects: Sequence[str]
    subsets: Sequence[str]
    unlabelled: Sequence[str]
    sequences: Sequence[str]
    classes: Mapping[int, str]
    ignored: Sequence[int]
    extents_mm: Sequence[Sequence[float]]
    spacings_mm: Sequence[float]


@dataclass(frozen=True)
class Machine:
    """What trains: a GPU with `gpu_gb` of memory; or, if that is 0, `cores` of a CPU, for so many minutes."""

    gpu_gb: float
    cores: int
    minutes: float


@dataclass(frozen=True)
class Encoder:
    """A released encoder to start from: its name in config/weights.yaml, and what it was trained with."""

    name: str
    backbone: str
    preprocess: str
    patch_size: Sequence[int]
    spacing_mm: float


@dataclass(frozen=True)
class Proposal:
    """The values of a first study. `reasons`: why, by value."""

    preprocess: str
    target_mm: float
    patch_size: list[int]
    levels: int
    width: int
    batch: int
    n_train: int
    seed: int
    steps: int
    pretrain_steps: int
    rates: list[float]
    reasons: dict[str, str]


def propose(folder: Folder, machine: Machine, encoder: Encoder | None = None) -> Proposal:
    """Chooses all values but the number of steps, which `timed` sets.

    Raises:
        UserError: too few labelled subjects for a test set, training cases and cases to choose on; or no class.
    """
    if len(folder.subjects) < FEWEST_SUBJECTS or not folder.classes:
        what = f"{count(len(folder.subjects), 'labelled subject')} and {len(folder.classes)} classes"
        fix = f"a study needs {FEWEST_SUBJECTS} labelled subjects and a class; `brainpretrain check` shows what was found"
        raise UserError(f"no study can be made from {what}", where=folder.root, fix=fix)
    reasons: dict[str, str] = {}
    preprocess, target = _spacing(folder, machine, encoder, reasons)
    patch, levels = _patch(folder, machine, encoder, target, reasons)
    seed, test = _test_set(folder.subjects)
    pool = len(folder.subjects) - test
    n_train = max(1, min(MOST_CASES, pool // 2))
    reasons["split"] = f"{count(test, 'subject')} to test on, {pool} to draw training cases from"
    reasons["n_train"] = f"half of the {pool}, at most {MOST_CASES}; the learning rate is chosen on the others"
    gpu = machine.gpu_gb > 0
    width = 8 if not gpu else 16 if machine.gpu_gb < 10 else 32
    reasons["width"] = "of the first level: " + (f"{machine.gpu_gb:.0f} GB of GPU memory" if gpu else "small, for a CPU")
    reasons["batch"] = "patches of a step; a training divides them among its GPUs"
    reasons["steps"] = "as AMAES; docs/statistics.md says when a training has converged"
    reasons["rates"] = "each arm takes the best of these on cases that no table shows"
    return Proposal(
        preprocess, target, patch, levels, width, 2, n_train, seed, 2500, 2500, RATES_GPU if gpu else RATES_CPU, reasons
    )  # fmt: skip


def timed(proposal: Proposal, machine: Machine, seconds_per_step: float, startup_s: float, pretrains: bool) -> Proposal:
    """The proposal with as many steps as fit into the minutes of the machine.

    Args:
        seconds_per_step: of a fine-tuning, on one core or one GPU.
        startup_s: seconds of a training besides its steps, its prediction and scores included.
        pretrains: whether an encoder is pretrained, too; it takes a quarter of the time on all cores.
    """
    trainings = 2 * FEWEST_FOLDS * (FEWEST_SEEDS + len(proposal.rates))
    lanes = min(machine.cores, trainings)
    pretraining = 0.25 if pretrains else 0.0
    seconds = max(0.0, machine.minutes * 60 * lanes * (1 - pretraining) / trainings - startup_s)
    steps = min(2500, max(50, round(seconds / seconds_per_step, -1)))
    pretrain_steps = min(10 * 2500, max(100, round(machine.minutes * 60 * pretraining / seconds_per_step / 2, -1)))
    words = f"{count(trainings, 'fine-tuning')} of {1000 * seconds_per_step:.0f} ms a step, in about {machine.minutes:g} minutes"
    reasons = proposal.reasons | {"steps": f"{words}; more are better: docs/statistics.md says when a training has converged"}
    values = vars(proposal) | {"steps": int(steps), "pretrain_steps": int(pretrain_steps), "reasons": reasons}
    return Proposal(**values)


def _spacing(folder: Folder, machine: Machine, encoder: Encoder | None, reasons: dict[str, str]) -> tuple[str, float]:
    finest = median(folder.spacings_mm)
    if encoder:
        reasons["preprocess"] = f"that of the encoder {encoder.name}; your volumes have {finest:.2g} mm"
        return encoder.preprocess, encoder.spacing_mm
    if "CT" in folder.sequences:
        reasons["preprocess"] = "CT: Hounsfield units are cut to a window"
        return "ct", 1
    voxels = median(math.prod(extent) for extent in folder.extents_mm)
    if finest > 1.5:
        reasons["preprocess"] = f"2 mm: the finest axis of the median volume has {finest:.2g} mm"
        return "coarse_2mm", 2
    if not machine.gpu_gb and voxels > 100**3:
        reasons["preprocess"] = f"2 mm, for a CPU; the volumes have {finest:.2g} mm, and `amaes` keeps 1 mm"
        return "coarse_2mm", 2
    reasons["preprocess"] = f"1 mm: the finest axis of the median volume has {finest:.2g} mm"
    return "amaes", 1


def _patch(
    folder: Folder, machine: Machine, encoder: Encoder | None, target: float, reasons: dict[str, str]
) -> tuple[list[int], int]:
    smallest = [min(extent[axis] for extent in folder.extents_mm) / target for axis in range(3)]
    shown = " x ".join(f"{side:.0f}" for side in smallest)
    if encoder:
        reasons["patch"] = f"that of the encoder {encoder.name}; the smallest volume has {shown} voxels at {target:g} mm"
        return list(encoder.patch_size), LEVELS[1]
    most = 48 if not machine.gpu_gb else 96 if machine.gpu_gb < 10 else 128
    levels = LEVELS[1]
    while levels > LEVELS[0] and min(*smallest, most) < COARSEST * 2 ** (levels - 1):
        levels -= 1
    step = max(4, 2 ** (levels - 1))  # blocks of masks have four voxels
    patch = [max(2 * step, step * math.floor(min(side, most) / step)) for side in smallest]
    limit = "" if most >= max(smallest) else f", at most {most} on this machine"
    reasons["patch"] = f"the smallest volume has {shown} voxels at {target:g} mm{limit}; a multiple of {step}"
    reasons["levels"] = f"the deepest feature map has {' x '.join(str(side // 2 ** (levels - 1)) for side in patch)} voxels"
    return patch, levels


def _test_set(subjects: Sequence[str]) -> tuple[int, int]:
    """The first seed whose test set is as large as the fraction asks for, and that size: each subject is drawn by itself."""
    size = max(1, round(TEST_FRACTION * len(subjects)))
    sizes = {seed: sum(is_drawn(subject, TEST_FRACTION, seed) for subject in subjects) for seed in range(200)}
    seed = min(sizes, key=lambda seed: (abs(sizes[seed] - size), seed))
    return seed, sizes[seed]


# ------------------------------------------------------------------------------------------------ YAML


def text(folder: Folder, proposal: Proposal, machine: Machine, encoder: Encoder | None = None) -> str:
    """The study as YAML with a comment for every value that was chosen."""
    why, name = proposal.reasons, folder.name
    init = encoder.name if encoder else f"amaes_{name}"
    backbone = encoder.backbone if encoder else f"unet_{name}"
    lines = [
        f"# Written by `brainpretrain init`. See it with `brainpretrain plan {name}`, run it with `brainpretrain run {name}`.",
        "# Each comment gives the reason for a value; change what you know better. docs/workflow.md: what an edit runs again.",
        f"title: {_flow(f'First results on {name}')}",
        "seed: 0",
        _with("folds: 3", "draws of training cases: fewer say nothing about another training"),
        _with("protocol: fair", "both arms have the same augmentation, steps and choice of learning rates, and three seeds each"),
        f"build: [{name}]",
        f"data_roots: {_flow({name if folder.options is not None else folder.module: folder.root})}",
        "",
        *_data(folder, proposal),
        *([] if encoder else _network(name, proposal)),
        "finetune:",
        f"  {name}:",
        "    like: fair",
        _with(f"    patch_size: {proposal.patch_size}", why["patch"]),
        _with(f"    global_batch: {proposal.batch}", why["batch"]),
        _with(
            f"    phases: [{{steps: {proposal.steps}, lr: {max(proposal.rates)}, decay: cosine}}]", why.get("steps", "as AMAES")
        ),
        _with(f"    lr_grid: {proposal.rates}", why["rates"]),
        "    inference: {weights: gaussian, batch: 4}",
        "",
        "tables:",
        f"  {name}:",
        f"    title: {_flow(f'{name}: scores of the test set, from scratch and pretrained')}",
        f"    columns: [{{title: {name}, task: {name}, cohort: test}}]",
        f"    corpus: {name}",
        f"    recipe: {name}",
        _with(f"    n_train: {proposal.n_train}", why["n_train"]),
        "    rows:",
        f"      - {{backbone: {backbone}, init: [scratch, {init}]}}",
    ]
    return "\n".join(lines) + "\n"


def _data(folder: Folder, proposal: Proposal) -> list[str]:
    name, why = folder.name, proposal.reasons
    dataset = name if folder.options is not None else folder.module
    lesions = [title for title in folder.classes.values() if LESION.search(title)]
    sources: list[dict[str, Any]] = [{"dataset": dataset, "sequences": list(folder.sequences), "pool_of": name}]
    if folder.unlabelled:
        sources.append({"dataset": dataset, "sequences": list(folder.sequences), "subsets": list(folder.unlabelled)})
    lines = []
    if folder.options is not None:
        entry = {dataset: {"module": folder.module, "options": dict(folder.options)}}
        lines += ["datasets:", *_indented(yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, width=120)), ""]
    lines += [
        "tasks:",
        f"  {name}:",
        f"    dataset: {dataset}",
        f"    sequences: {_flow(list(folder.sequences))}",
        f"    subsets: {_flow(list(folder.subsets))}",
        f"    labels: {_flow({title: [value] for value, title in folder.classes.items()})}",
    ]
    if folder.ignored:
        lines.append(f"    ignore: {list(folder.ignored)}")
    if lesions:
        lines.append(_with(f"    lesions: {_flow(lesions)}", "connected components of these are counted, too"))
    lines += [
        _with(f"    nsd_tolerance_mm: {proposal.target_mm:g}", "one voxel; docs/evaluation.md: how to choose"),
        _with(f"    preprocess: {proposal.preprocess}", why["preprocess"]),
        _with(f"    split: {{seed: {proposal.seed}, test_fraction: {TEST_FRACTION}, block: {proposal.n_train}}}", why["split"]),
        "",
        "corpora:",
        f"  {name}:",
        _with(f"    sources: {_flow(sources)}", "never a subject of the test set"),
        f"    preprocess: {proposal.preprocess}",
        "    val_fraction: 0.1",
        "    protocol: strict",
        "",
    ]
    return lines


def _network(name: str, proposal: Proposal) -> list[str]:
    why = proposal.reasons
    return [
        "backbones:",
        f"  unet_{name}:",
        "    like: unet_b",
        _with(f"    options: {{width: {proposal.width}, levels: {proposal.levels}}}", f"{why['width']}; {why['levels']}"),
        "",
        "pretexts:",
        f"  amaes_{name}:",
        "    like: amaes",
        _with(f"    patch_size: {proposal.patch_size}", "as in fine-tuning"),
        "    global_batch: 4",
        f"    phases: [{{steps: {proposal.pretrain_steps}, lr: 1.0e-3, decay: cosine}}]",
        "",
    ]


def _with(line: str, reason: str) -> str:
    return f"{line}  # {reason}"


def _flow(content: Any) -> str:
    """YAML on one line."""
    dumped = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**6)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _indented(block: str) -> list[str]:
    return [f"  {line}" for line in block.splitlines()]
