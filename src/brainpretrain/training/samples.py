"""Patches of stored volumes, and their batches. Every random choice is a function of (seed, sample number) alone.

So a sample does not depend on the number of workers, devices or restarts, and a training that resumes at step s continues
with sample s * global_batch.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from brainpretrain.augment.boxes import crop_box, random_start, start_around, start_centred
from brainpretrain.augment.policy import Policy
from brainpretrain.cohorts.cases import IGNORED, Case
from brainpretrain.errors import UserError
from brainpretrain.preprocess import frames
from brainpretrain.scales import Rule
from brainpretrain.seeds import sample_seed

# enough voxels to draw foreground patches from, few enough to keep for every case (6 bytes each)
_MAX_FOREGROUND_VOXELS = 20_000
UNSCALED = Rule()


def _read(load: Callable, box: tuple[slice, ...], padding: list[tuple[int, int]], lead: int) -> np.ndarray:
    """Reads a box and pads with 0, which is the minimum of a stored image and the background of a label."""
    return np.pad(load(box), [(0, 0)] * lead + padding)


def _scale(rule: Rule, rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, torch.Tensor]:
    """The part of an item that says how its intensities are scaled; empty if they stay as they are."""
    scale = rule.of_rows(rows, folder)
    return {} if scale is None else {"scale": torch.from_numpy(scale)}


class PretrainPatches(Dataset):
    """One patch per volume and epoch: sample i is volume `permutation(i // n)[i % n]` at a random place.

    Items: image, float16 (1 x y z), the box that `policy` needs; its draws; seed; volume, the name of the volume; and `scale`
    (1 4), if the rule of intensities scales them.
    """

    def __init__(
        self, rows: pd.DataFrame, folder: Path, patch: Sequence[int], policy: Policy, seed: int, rule: Rule = UNSCALED
    ) -> None:
        self.rows, self.folder = rows.to_dict("records"), Path(folder)
        self.patch, self.policy, self.seed, self.rule = list(patch), policy, seed, rule
        self._epoch, self._order = -1, np.arange(0)

    def volume_of(self, number: int) -> int:
        """Row of the volume that sample `number` comes from."""
        epoch, place = divmod(number, len(self.rows))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return int(self._order[place])

    def source(self, number: int) -> tuple[str, Path]:
        """Name and file of the volume that sample `number` comes from."""
        row = self.rows[self.volume_of(number)]
        return f"{row['dataset']}/{row['volume']}", self.folder / row["file"]

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self.rows[self.volume_of(number)]
        seed = sample_seed(self.seed, number)
        shape = [int(n) for n in row["shape"].split()]
        start = random_start(np.random.default_rng(seed), shape, self.patch)
        draws = self.policy.draw(seed, 1, self.patch)
        box, padding = crop_box(start, draws.box, shape)
        image = _read(lambda b: frames.load(self.folder, row, b)[None], box, padding, lead=1)
        item = {"image": torch.from_numpy(image), "draws": draws, "seed": seed, "volume": self.source(number)[0]}
        return item | _scale(self.rule, [row], self.folder)


@dataclass
class FinetunePatches(Dataset):
    """Endless patches of a few labelled cases; a share of them is placed around a foreground voxel.

    Cases of several data sets have a lookup of their own each. With `parts`, lists of cases, patches are taken from one part
    after the other, so that each part gives equally many; without, every case gives equally many.

    Items: image, float16 (c x y z), and label, uint8 (x y z), the box that `policy` needs; its draws; seed; volume, the name
    of the case; and `scale` (c 4), if the rule of intensities scales them.
    """

    cases: list[Case]
    lookups: list[np.ndarray]
    patch: list[int]
    policy: Policy
    foreground_fraction: float
    seed: int
    rule: Rule = UNSCALED
    parts: list[list[int]] = field(default_factory=list)
    _foreground: dict[int, np.ndarray] = field(default_factory=dict)

    def foreground(self, number: int) -> np.ndarray:
        """Voxels (n, 3) of case `number` that have a class, thinned out; each label is read once."""
        if number not in self._foreground:
            label = self.cases[number].label(self.lookups[number])
            voxels = np.argwhere((label > 0) & (label != IGNORED))
            step = max(1, len(voxels) // _MAX_FOREGROUND_VOXELS)
            self._foreground[number] = voxels[::step].astype(np.int16)
        return self._foreground[number]

    def case_of(self, number: int) -> int:
        """Index of the case that sample `number` comes from: in a part, every case once per round, in a new order each time."""
        if not self.parts:
            round_number, place = divmod(number, len(self.cases))
            return int(np.random.default_rng([self.seed, round_number]).permutation(len(self.cases))[place])
        number, part = divmod(number, len(self.parts))
        round_number, place = divmod(number, len(self.parts[part]))
        return int(np.random.default_rng([self.seed, round_number, part]).permutation(self.parts[part])[place])

    def source(self, number: int) -> tuple[str, Path]:
        """Name and first file of the case that sample `number` comes from."""
        case = self.cases[self.case_of(number)]
        return case.name, case.folder / case.rows[0]["file"]

    def __getitem__(self, number: int) -> dict[str, Any]:
        index = self.case_of(number)
        case = self.cases[index]
        seed = sample_seed(self.seed, number)
        rng = np.random.default_rng(seed)
        start = random_start(rng, case.shape, self.patch)
        if rng.random() < self.foreground_fraction and len(self.foreground(index)):
            voxel = self.foreground(index)[rng.integers(len(self.foreground(index)))]
            start = start_around(rng, [int(v) for v in voxel], case.shape, self.patch)
        return self.cut(index, start, seed)

    def cut(self, index: int, start: list[int], seed: int) -> dict[str, Any]:
        """The item of case `index` whose patch starts at voxel `start`; `seed`: of its draws."""
        case = self.cases[index]
        draws = self.policy.draw(seed, len(case.rows), self.patch)
        box, padding = crop_box(start, draws.box, case.shape)
        image = _read(case.image, box, padding, lead=1)
        label = _read(lambda b: case.label(self.lookups[index], b), box, padding, lead=0)
        item = {"image": torch.from_numpy(image), "label": torch.from_numpy(label), "draws": draws, "seed": seed}
        return item | {"volume": case.name} | _scale(self.rule, case.rows, case.folder)


class ValidationPatches(Dataset):
    """The same patches of the same cases in every validation, arm and seed, whatever the number of devices.

    Patch k of a case is centred on a voxel of one of its classes, the classes in turn, as far as the volume reaches; the voxel
    depends on the name of the case and on k alone. A case without foreground has patches at random places. Items are as those
    of `FinetunePatches`.

    Args:
        patches: of the cases that validate, with a policy that draws nothing.
        per_case: patches of each case.
    """

    def __init__(self, patches: FinetunePatches, per_case: int) -> None:
        self.patches = patches
        self.rows = [(index, number) for index in range(len(patches.cases)) for number in range(per_case)]
        self._classes: dict[int, list[np.ndarray]] = {}

    def _voxels(self, index: int) -> list[np.ndarray]:
        """Voxels (n, 3) of each class that a case has, thinned out; each label is read once."""
        if index not in self._classes:
            label = self.patches.cases[index].label(self.patches.lookups[index])
            found = [np.argwhere(label == value) for value in np.unique(label) if value not in (0, IGNORED)]
            thin = [voxels[:: max(1, len(voxels) // _MAX_FOREGROUND_VOXELS)] for voxels in found]
            self._classes[index] = [voxels.astype(np.int16) for voxels in thin]
        return self._classes[index]

    def source(self, number: int) -> tuple[str, Path]:
        """Name and first file of the case of a patch."""
        case = self.patches.cases[self.rows[number][0]]
        return case.name, case.folder / case.rows[0]["file"]

    def __getitem__(self, number: int) -> dict[str, Any]:
        index, place = self.rows[number]
        case, size = self.patches.cases[index], self.patches.patch
        rng = np.random.default_rng([zlib.crc32(case.name.encode()), place])
        start = random_start(rng, case.shape, size)
        if classes := self._voxels(index):
            voxels = classes[place % len(classes)]
            centre = voxels[rng.integers(len(voxels))]
            start = start_centred([int(v) for v in centre], case.shape, size)
        return self.patches.cut(index, start, sample_seed(0, number))


class StepSampler:
    """Batches of sample numbers for the remaining steps of an epoch; each rank takes its share of a global batch.

    Args:
        global_batch: samples per step over all ranks.
        epoch_steps: steps of an epoch; nothing is loaded beyond its end, since the next epoch starts a new iteration.
        total_steps: steps of the whole training.
        current_step: called at the start of every epoch, so that a resumed training continues at its step.
    """

    def __init__(
        self,
        global_batch: int,
        epoch_steps: int,
        total_steps: int,
        current_step: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if global_batch % world:
            raise UserError(
                f"global_batch {global_batch} cannot be divided by {world} processes",
                fix="use a number of devices that divides it",
            )
        self.global_batch, self.epoch_steps, self.total_steps = global_batch, epoch_steps, total_steps
        self.current_step = current_step
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[int]]:
        start = self.current_step()
        end = min((start // self.epoch_steps + 1) * self.epoch_steps, self.total_steps)
        for step in range(start, end):
            first = step * self.global_batch
            yield list(range(first + self.rank, first + self.global_batch, self.world))

    def __len__(self) -> int:
        return min(self.epoch_steps, self.total_steps)


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch: seeds as a tensor, the rest as lists, since the boxes of samples differ in size."""
    batch: dict[str, Any] = {key: [item[key] for item in items] for key in items[0]}
    return batch | {"seed": torch.tensor(batch["seed"])}


class Noted(Dataset):
    """A data set that records in shared memory the sample that each loader process reads, so that a kill can be explained.

    Args:
        samples: `PretrainPatches` or `FinetunePatches`.
        workers: loader processes.
    """

    def __init__(self, samples: Any, workers: int) -> None:
        self.samples = samples
        self.processes = multiprocessing.RawArray(ctypes.c_int64, workers)
        self.numbers = multiprocessing.RawArray(ctypes.c_int64, [-1] * workers)

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not (worker := get_worker_info()):
            return self.samples[number]
        self.processes[worker.id], self.numbers[worker.id] = os.getpid(), number
        item = self.samples[number]
        self.numbers[worker.id] = -1
        return item

    def source(self, process: int) -> tuple[str, Path] | None:
        """Name and file of the volume that a loader process was reading when it ended; None if it was not reading."""
        pairs = zip(self.processes, self.numbers, strict=True)
        number = next((number for owner, number in pairs if owner == process and number >= 0), None)
        return None if number is None else self.samples.source(number)


def loader(dataset: Any, batches: Any, workers: int, pin: bool) -> DataLoader:
    """DataLoader over a batch sampler; its workers run until the end of the training."""
    return DataLoader(
        Noted(dataset, workers),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_signals_to_the_training,
    )


def _leave_signals_to_the_training(worker: int) -> None:
    """Slurm signals every process of a job; a loader process that ended at once would end the training before it can save."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
