"""Callbacks of a training: rows of log.csv and progress, checkpoints, and an orderly end on a signal or a bad loss."""

from __future__ import annotations

import csv
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from brainpretrain import distributed, memory
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, explain_full_disk
from brainpretrain.training import checkpoints
from brainpretrain.training.history import History
from brainpretrain.training.log import read_log

# a time limit or a pre-emption, Slurm's warning before it, Ctrl-C, a terminal or an SSH connection that is gone
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def exit_code(number: int) -> int:
    """Exit code of a training that saved because of signal `number`, as a shell reports it; a launcher acts on it."""
    return 128 + number


class Meter:
    """Means of named scalars, kept on the device so that no step waits for them; `state` goes into checkpoints."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Any], weight: int) -> None:
        """Adds means over `weight` samples."""
        for name, value in values.items():
            value = weight * torch.as_tensor(value).detach().float()
            self.sums[name] = value + self.sums[name].to(value.device) if name in self.sums else value
        self.count += weight

    @property
    def state(self) -> dict[str, Any]:
        return {"count": self.count, "sums": {name: float(value) for name, value in self.sums.items()}}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]
        self.sums = {name: torch.tensor(value) for name, value in state["sums"].items()}

    def read(self, trainer: L.Trainer) -> dict[str, float]:
        """Means over everything added in all processes; empties the meter. Empty if nothing was added."""
        if not self.sums:
            return {}
        count = trainer.strategy.reduce(torch.tensor(float(self.count), device=trainer.strategy.root_device), reduce_op="sum")
        sums = {name: trainer.strategy.reduce(value, reduce_op="sum") for name, value in sorted(self.sums.items())}
        means = {name: float(value / count) for name, value in sums.items()}
        self.sums, self.count = {}, 0
        return means


class Trace(L.Callback):
    """Writes one row of log.csv and prints one line per epoch; on a terminal a progress bar replaces the line.

    After a resume, rows later than the step of the checkpoint are dropped and a begun epoch is completed, so the file reads as
    if there had been no interruption. Lightning stores the state of a callback under the name of its class: renaming this
    class would lose the begun epoch of every training that runs.
    """

    def __init__(self, path: Path, patches_per_step: int, epoch_steps: int, total_steps: int, quiet: bool) -> None:
        self.path = path
        self.patches_per_step, self.epoch_steps, self.total_steps, self.quiet = patches_per_step, epoch_steps, total_steps, quiet
        self.train, self.val = Meter(), Meter()
        self.val_batches = 0  # over all processes
        self.total = 0.0  # seconds of training steps, including earlier attempts, without validation and saving
        self.begun: dict[str, Any] = {}
        self.further: dict[str, str] = {}  # columns that another callback fills; empty in an epoch in which it does not

    def state_dict(self) -> dict[str, Any]:
        """Sums of a begun epoch, which are logged at its end."""
        return {"meter": self.train.state, "steps": self.steps, "seconds": self.seconds, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.begun = state

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ready = time.monotonic()
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        if self.begun:
            self.train.state = self.begun["meter"]
            self.steps, self.seconds, self.waited = (self.begun[name] for name in ("steps", "seconds", "waited"))
        if trainer.is_global_zero:
            self._keep_rows_until(trainer.global_step)

    def _keep_rows_until(self, step: int) -> None:
        kept = [row for row in read_log(self.path) if int(row["step"]) <= step] if step else []
        self.total = float(kept[-1]["seconds"]) if kept else 0.0
        if not kept:
            self.path.unlink(missing_ok=True)
        else:
            with atomic(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(kept[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(kept)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.started = time.monotonic()
        self.waited += self.started - self.ready
        self.seconds += self.started - self.ready

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.train.add(outputs, len(batch["seed"]))
        self.steps += 1
        if batch_idx + 1 == trainer.num_training_batches and torch.cuda.is_available():
            torch.cuda.synchronize()  # otherwise the last step of an epoch would be counted in the next
        self.ready = time.monotonic()
        self.seconds += self.ready - self.started

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        repeated = trainer.global_rank + batch_idx * trainer.world_size >= self.val_batches
        self.val.add(outputs, 0 if repeated else len(batch["seed"]))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ready = time.monotonic()  # time of validation is not time of waiting for data

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.steps:
            return
        rate = self.steps * self.patches_per_step / self.seconds
        self.total += self.seconds
        row: dict[str, Any] = {
            "epoch": -(-trainer.global_step // self.epoch_steps),
            "step": trainer.global_step,
            "seconds": round(self.total, 2),
            "lr": f"{trainer.optimizers[0].param_groups[0]['lr']:.3e}",
            "patches_per_s": round(rate, 3),
            "data_wait": round(self.waited / self.seconds, 4),
            "peak_memory_gb": round(memory.peak_gb(), 3),
        }
        train, val = self.train.read(trainer), self.val.read(trainer)
        row |= {name: f"{value:.6g}" for name, value in train.items()}
        if self.val_batches:  # the columns exist from the first row on, empty in an epoch without validation
            row |= {f"val_{name}": f"{val[name]:.6g}" if val else "" for name in train}
        row |= self.further
        self.further |= dict.fromkeys(self.further, "")
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        if trainer.is_global_zero:
            self._write(row)
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in row.items() if value != ""}, step=trainer.global_step)

    def _append(self, row: Mapping[str, Any]) -> None:
        new = not self.path.exists()
        with explain_full_disk(self.path), open(self.path, "a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _write(self, row: dict[str, Any]) -> None:
        self._append(row)
        if not self.quiet:
            val = f"  val {row['val_loss']}" if row.get("val_loss") else ""
            val += f"  pseudo-Dice {row['val_dice']}" if row.get("val_dice") else ""
            print(
                f"epoch {row['epoch']}  step {row['step']}/{self.total_steps}  loss {row['loss']}{val}  lr {row['lr']}"
                f"  {row['patches_per_s']} patches/s  data-wait {100 * row['data_wait']:.0f} %  {row['seconds']:.0f} s",
                flush=True,
            )

    def summary(self) -> dict[str, float]:
        """Totals over all attempts, for run.json; means leave out the first row, which has the warm-up, if there are more."""
        rows = read_log(self.path)
        means = {}
        for name in ("patches_per_s", "data_wait"):
            values = [float(row[name]) for row in rows[1:] or rows]
            means[name] = round(sum(values) / len(values), 4)
        return {"seconds": float(rows[-1]["seconds"]), **means}


class Finite(L.Callback):
    """Ends a training whose loss stays NaN or Inf, and prevents checkpoints of such a state.

    The number of bad steps in a row is counted on the device and read every `patience` steps, so that no step waits for it. In
    16-mixed the gradient scaler skips a single bad step; in other precisions no training recovers.

    Args:
        patience: number of bad steps in a row after which the training ends.
        work: the work folder with the checkpoints.
    """

    def __init__(self, patience: int, work: Path) -> None:
        self.patience, self.work = patience, work
        self.bad = torch.tensor(0)
        self.recent: deque[tuple[int, list[str]]] = deque(maxlen=2 * patience)  # step and volumes of the last batches

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        finite = outputs["loss"].detach().isfinite()
        self.bad = torch.where(finite, 0, self.bad.to(finite.device) + 1)
        self.recent.append((trainer.global_step, batch["volume"]))
        if trainer.global_step % self.patience == 0:
            self._require(trainer, self.patience)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.is_good(trainer, pl_module):
            self._require(trainer, 0)

    def is_good(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        """True if the last loss and all weights are finite in every process."""
        finite = torch.stack([parameter.isfinite().all() for parameter in pl_module.parameters()]).all()
        return not max(distributed.numbers(int(self.bad) + int(not finite), trainer.strategy.root_device))

    def _require(self, trainer: L.Trainer, limit: int) -> None:
        """Raises UserError if `limit` steps in a row, or more, were bad in some process."""
        own = int(self.bad)
        if max(distributed.numbers(own, trainer.strategy.root_device)) < limit:
            return
        step, last = trainer.global_step, checkpoints.last(self.work)
        problem = f"the loss{'' if own else ' or a weight'} is not finite at step {step}"
        if own:
            begin, volumes = self.recent[-min(own, len(self.recent))]
            problem += f", the {own}. in a row; it began at step {begin} with {' '.join(dict.fromkeys(volumes))}"
        before = f"{last} is from before" if last else "no checkpoint was made before"
        raise UserError(
            problem,
            where=self.work,
            fix=f"look at these volumes, lower lr, set gradient_clip, or use precision bf16-mixed or 32-true; {before}",
        )


SIGNAL_STEPS = 10  # several processes agree on a signal every so many steps, since each agreement costs a round trip


class Checkpoints(L.Callback):
    """Saves every `every` steps, keeps two generations, and ends in an orderly way on SIGTERM, SIGUSR1, SIGHUP or Ctrl-C.

    After a signal the current step is finished, then the state is saved, a line printed, and the process exits with
    `exit_code`. On the last step of an epoch, saving waits for validation and for the row of the log. A second Ctrl-C ends
    the process at once.
    """

    def __init__(self, work: Path, every: int, finite: Finite, history: History) -> None:
        self.finite, self.history = finite, history
        self.work, self.every = work, every
        self.caught, self.stop, self.waiting = 0, 0, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if len(set(distributed.numbers(trainer.global_step, trainer.strategy.root_device))) > 1:
            raise UserError(
                "the processes see different checkpoints to continue from (the file system is late)",
                where=self.work,
                fix="start again",
            )
        for number in STOPPING:
            if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN):  # under nohup it goes on
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if number == self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = number

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.waiting |= trainer.global_step % self.every == 0
        if trainer.world_size == 1 or trainer.global_step % SIGNAL_STEPS == 0:
            self.stop = max(distributed.numbers(self.caught, trainer.strategy.root_device))
        if batch_idx + 1 < trainer.num_training_batches:
            self._save_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, pl_module)

    def _save_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (self.waiting or self.stop):
            return
        step, saved = trainer.global_step, "saved"
        if self.finite.is_good(trainer, pl_module):
            self.waiting = False
            trainer.save_checkpoint(self.work / checkpoints.name(step))
            if trainer.is_global_zero:
                checkpoints.prune(self.work, step)
            self.history.saved(step)
        else:  # the next good step is saved, or `finite` ends the training
            saved = f"not saved, since the loss or a weight is not finite; {checkpoints.last(self.work) or 'nothing'} is there"
        if self.stop:
            self.history.stopped(signal.Signals(self.stop).name)
            if trainer.is_global_zero:
                name = signal.Signals(self.stop).name
                print(f"stopped by {name} at step {step}, {saved}; the same command continues", flush=True)
            sys.exit(exit_code(self.stop))
