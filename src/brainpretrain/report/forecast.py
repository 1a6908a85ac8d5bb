"""What a study still costs: patches of its trainings, times the seconds per patch of trainings that ran or of a step timed now.

Nothing is guessed: a training whose network has no rate on record and is not timed has no hours, and the text says so.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain.config import Config
from brainpretrain.config.sections import Phase
from brainpretrain.files import read_mapping
from brainpretrain.plan.runs import Arm, Plan, Pretraining
from brainpretrain.report.status import RUNS

TIMED_STEPS = 2  # after one that is not counted


@dataclass(frozen=True)
class Kind:
    """Trainings of one network on patches of one size; `method`: the pretext, '' for a fine-tuning.

    `classes` of the segmentation network that is timed; networks that differ in it alone are one kind.
    """

    backbone: str
    method: str
    patch_size: tuple[int, ...]
    classes: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Line:
    """Trainings of a kind that have not finished.

    Attributes:
        trainings: their number.
        patches: of all of them; None if the size of the corpus is not known yet.
        seconds_per_patch: None if no rate is on record.
        source: where the rate comes from, in words.
    """

    kind: Kind
    trainings: int
    patches: int | None
    seconds_per_patch: float | None
    source: str

    @property
    def hours(self) -> float | None:
        """Hours on the devices that the rate is from; None if it or the number of patches is not known."""
        known = self.patches is not None and self.seconds_per_patch is not None
        return self.patches * self.seconds_per_patch / 3600 if known else None


def lines(plan: Plan, results: Path, timed: Mapping[Kind, float] | None = None, leave_out: Container[str] = ()) -> list[Line]:
    """The trainings of a study that have not finished, by kind, pretrainings first.

    Args:
        results: folder of the results; finished trainings of every study there give rates.
        timed: seconds per patch of kinds that were timed now, see `time_step`.
        leave_out: paths of trainings that are not counted, below the results of the study.
    """
    open_runs: dict[Kind, list[int | None]] = {}
    for kind, path, patches in _trainings(plan, results):
        if path not in leave_out and not (results / plan.config.study_name / path / "run.json").exists():
            open_runs.setdefault(kind, []).append(patches)
    rates, made = _rates(plan.config, results), []
    for kind, patches in open_runs.items():
        seconds, source = _rate(kind, rates, timed or {})
        total = None if None in patches else sum(number for number in patches if number)
        made.append(Line(kind, len(patches), total, seconds, source))
    return sorted(made, key=lambda line: (not line.kind.method, line.kind.backbone, line.kind.method))


def _trainings(plan: Plan, results: Path) -> Iterable[tuple[Kind, str, int | None]]:
    config = plan.config
    for pretraining in plan.pretrainings:
        recipe = config.pretext(pretraining.pretext, pretraining.backbone)
        kind = Kind(pretraining.backbone, pretraining.pretext, tuple(recipe.patch_size))
        volumes = _volumes(config, results, pretraining)
        yield kind, pretraining.path, _patches(recipe.phases, recipe.global_batch, volumes)
    arms: dict[str, Arm] = {e.training: e.arm for e in [*plan.evaluations, *plan.tunings]}
    for path, arm in arms.items():
        recipe = config.finetune[arm.recipe]
        kind = Kind(arm.backbone, "", tuple(recipe.patch_size), len(config.tasks[arm.task].labels) + 1)
        cases = int(arm.n_train) if arm.n_train.isdigit() else None
        yield kind, path, _patches(recipe.phases, recipe.global_batch, cases)


def _patches(phases: Iterable[Phase], batch: int, volumes: int | None) -> int | None:
    """Patches of all phases; an epoch is one patch of every volume, in whole batches."""
    total = 0
    for phase in phases:
        if phase.steps is None and volumes is None:
            return None
        per_epoch = max(1, (volumes or 0) // batch)
        total += batch * (phase.steps if phase.steps is not None else round((phase.epochs or 0) * per_epoch))
    return total


def _volumes(config: Config, results: Path, pretraining: Pretraining) -> int | None:
    """Training volumes of a corpus: of its table if it was made, else as many as its data sets are expected to have."""
    table = results / config.study_name / "corpora" / pretraining.corpus / "corpus.tsv"
    if table.exists():
        rows = pd.read_csv(table, sep="\t", dtype=str, usecols=["role"])
        return int((rows["role"] == "train").sum())
    corpus, total = config.corpora[pretraining.corpus], 0
    for dataset in corpus.datasets:
        expected = (config.described(dataset).expected or {}).get("volumes")
        if expected is None or corpus.subjects is not None:
            return None
        total += expected
    return round(total * (1 - corpus.val_fraction))


# ------------------------------------------------------------------------------------------------ rates


def _rates(config: Config, results: Path) -> dict[tuple[str, bool], list[tuple[float, str]]]:
    """Seconds per voxel of a patch, with the hardware, by options of the backbone and whether it was a pretraining."""
    found: dict[tuple[str, bool], list[tuple[float, str]]] = {}
    for pattern in RUNS:
        for path in sorted(results.glob(f"*/{pattern}/run.json")):
            run = read_mapping(path)
            entry, size = run.get("config", {}), run.get("config", {}).get("recipe", {}).get("patch_size")
            if not run.get("patches_per_s") or not size:
                continue
            key = (_network(entry["backbone"]), pattern.startswith("pretrain"))
            found.setdefault(key, []).append((1 / run["patches_per_s"] / prod(size), str(run.get("hardware", ""))))
    return {
        (name, pretraining): found[_network(config.backbones[name].model_dump(mode="json")), pretraining]
        for name in config.backbones
        for pretraining in (True, False)
        if (_network(config.backbones[name].model_dump(mode="json")), pretraining) in found
    }


def _network(entry: Mapping[str, Any]) -> str:
    return f"{entry['architecture']} {sorted(entry['options'].items())}"


def _rate(kind: Kind, rates: Mapping[tuple[str, bool], list[tuple[float, str]]], timed: Mapping[Kind, float]):
    if recorded := rates.get((kind.backbone, bool(kind.method))):
        seconds, hardware = sorted(recorded)[len(recorded) // 2]
        return seconds * prod(kind.patch_size), f"median of {len(recorded)} finished trainings ({hardware})"
    if kind in timed:
        return timed[kind], "a step timed now on this machine, without reading and augmentation"
    return None, "no rate on record"


def time_step(config: Config, kind: Kind) -> float:
    """Seconds per patch of the forward and backward pass of a network, on the GPU if there is one, else on the CPU.

    The network has random weights and one input channel; a batch has two patches, since some pretexts compare them.
    """
    import torch  # only where a step is timed

    from brainpretrain.training import counts

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = counts.build(config, kind.backbone, kind.method or None, kind.classes or None).to(device)
    batch = torch.rand(2, 1, *kind.patch_size, device=device)
    for step in range(TIMED_STEPS + 1):
        if step == 1:
            began = time.perf_counter()
        made = network(batch, batch, [0, 1]) if kind.method else network(batch)
        _sum(made).backward()
        if device == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - began) / TIMED_STEPS / len(batch)


def _sum(made: Any) -> Any:
    """The sum of all tensors that need a gradient in what a network returns."""
    import torch

    if isinstance(made, torch.Tensor):
        return made.float().sum() if made.requires_grad else 0
    if isinstance(made, Mapping):
        return sum(_sum(value) for value in made.values())
    if isinstance(made, list | tuple):
        return sum(_sum(value) for value in made)
    return _sum(vars(made)) if hasattr(made, "__dict__") else 0


def disk(plan: Plan, results: Path) -> tuple[int, list[str]]:
    """Bytes of the stored volumes of a study, and the data sets that have none stored yet, whose size is not known."""
    total, unknown = 0, []
    for dataset, preprocess in plan.preprocessed:
        folder = results / "data" / dataset / preprocess
        if (folder / "volumes.tsv").exists():
            total += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        else:
            unknown.append(dataset)
    return total, sorted(set(unknown))
