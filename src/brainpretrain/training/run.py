"""One attempt at a training, of either kind: takes the work folder, resumes, fits, and turns it into a finished result."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy

from brainpretrain import locks, memory, provenance
from brainpretrain.config.runs import Run
from brainpretrain.errors import UserError, as_raised
from brainpretrain.files import atomic, clear_parts, fingerprint, link, read_json, write_json, write_tsv
from brainpretrain.training import checkpoints, execution, samples, schedule
from brainpretrain.training.callbacks import Checkpoints, Finite, Trace
from brainpretrain.training.history import History
from brainpretrain.training.machine import Machine
from brainpretrain.training.modules import Module, check_precision
from brainpretrain.training.watching import Watch

# Lightning prints advice and lists of hardware, which run.json has; this project prints a line per epoch
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")  # slurm/launch.sh calls it where it is needed
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # StepSampler is: it asks for the step


LOG = "log.csv"
# planned learning rates; no rule declares the file, so that trainings from before it existed lack no output
SCHEDULE = "schedule.tsv"


class Attempt:
    """One attempt at a training. Enter it, fit, write the results of this kind of training, and finish.

    However the block ends, the work folder is free for the next attempt and has a line about the end in its history.

    Args:
        module: the training.
        made_from: everything that the result is a function of, as plain data; its fingerprint names the work folder.
        machine: where it runs.
        epoch_steps: optimiser steps of an epoch, after which a row is logged.
        val_rows: number of validation volumes, or of validation patches of a fine-tuning.
        classes: names of the classes of a fine-tuning, if it is validated.

    Raises:
        UserError: the precision does not work on this CPU, or fewer processes run than there are devices.
    """

    def __init__(
        self,
        module: Module,
        made_from: Mapping[str, Any],
        machine: Machine,
        epoch_steps: int,
        val_rows: int = 0,
        classes: Sequence[str] = (),
    ) -> None:
        self.module, self.made_from, self.machine, self.epoch_steps = module, made_from, machine, epoch_steps
        self.key = fingerprint(*made_from.values())
        self.work, self.out = machine.work / self.key, machine.out
        self.history = History(self.work)
        self.lock: locks.Lock | None = None
        self.loaders: list[Any] = []
        self.steps, self.peak_gb = 0, 0.0  # of this process, known when it has fitted
        self.facts = provenance.facts() | {
            "devices": machine.devices,
            "threads": machine.threads,
            "workers": machine.workers,
            "execution": list(machine.execution),
        }
        recipe = module.recipe
        check_precision(recipe.precision, recipe.patch_size, module.encoder.strides[-1])
        execution.apply([module.encoder, *module.decoders], machine.execution)
        self.total_steps = schedule.total_steps(module.stretches)
        on_terminal = sys.stdout.isatty()
        self.trace = Trace(self.work / LOG, recipe.global_batch, epoch_steps, self.total_steps, quiet=on_terminal)
        self.trace.val_batches = -(-val_rows // recipe.global_batch)
        self.watch: Watch | None = None
        if classes:
            self.watch = Watch(recipe, classes, self.work, self.history, module.stretches, self.trace.further)
            self.watch.batches = self.trace.val_batches
        self.trainer = self._trainer(on_terminal)
        if self.trainer.world_size != machine.devices:
            raise UserError(
                f"{self.trainer.world_size} process(es) run, but {machine.devices} device(s) were asked for",
                fix="start one task per device (on Slurm: tasks_per_node and launcher, see slurm/README.md)",
            )

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        cause = as_raised(error) if isinstance(error, UserError) else error
        if cause is None:
            # all processes leave together: one that left early would look like the end of the training to a waiting copy
            self.trainer.strategy.barrier()
        else:
            self.history.failed(cause)
        if self.lock:
            self.lock.release()
        if cause is not None and cause is not error:
            raise cause from None

    @property
    def is_first(self) -> bool:
        """True in the process that writes the results."""
        return self.trainer.is_global_zero

    def fit(self, train: Any, val: Any = None) -> bool:
        """Trains to the end, from the newest checkpoint of the work folder if there is one.

        Args:
            train: data set of samples, without end.
            val: data set of validation samples: one for each volume, or `ValidationPatches`.

        Returns:
            False if another copy of this training ran, this one waited for it, and the results are there.

        Raises:
            UserError: another training writes the same results, the checkpoint is of another training, memory or disk space
                ran out, a loader process was killed, the loss is not finite, or too many attempts made no checkpoint.
        """
        trainer, batch = self.trainer, self.module.recipe.global_batch
        if self._waited_for_another() and self._is_finished():
            print("another copy of this training has just finished it: nothing left to do", flush=True)
            return False
        checkpoint, damaged = checkpoints.newest(self.work)
        for line in damaged:
            print(line, flush=True)
        if checkpoint:
            checkpoints.require_same(checkpoint, self.made_from)
        rank, world = trainer.global_rank, trainer.world_size
        sampler = samples.StepSampler(batch, self.epoch_steps, self.total_steps, lambda: trainer.global_step, rank, world)
        name = checkpoint.name if checkpoint else ""
        if self.is_first:
            self._begin(name)
        self.facts["resumed_from"] = name
        loaders = self._loader(train, sampler), self._val_loader(val) if val else None
        try:
            trainer.fit(self.module, *loaders, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
        except Exception as error:
            if explained := self._explained(error):
                raise explained from error
            raise
        self.steps, self.peak_gb = trainer.global_step, round(memory.peak_gb(), 3)
        return True

    def finish(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Moves log, schedule and history to the results, writes config.yaml and run.json, and removes the work folder."""
        for file in (LOG, SCHEDULE):
            with atomic(self.out / file) as temporary:
                shutil.copyfile(self.work / file, temporary)
        config = run.plain()
        with atomic(self.out / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))
        about = {
            "kind": self.module.kind,
            "name": run.name,
            "fingerprint": self.key,
            **self.facts,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "precision": self.module.recipe.precision,
            "peak_memory_gb": self.peak_gb,
            **self.trace.summary(),
            **self.history.summary(),
            "steps": self.steps,
            **facts,
            "config": config,
        }
        write_json(self.out / "run.json", about)
        tensorboard = self.work / "tensorboard"
        if tensorboard.exists():
            shutil.copytree(tensorboard, self.out / "tensorboard", dirs_exist_ok=True)
        self.history.finish(self.out)
        if self.module.kind == "pretraining":
            self._keep()
        shutil.rmtree(self.work, ignore_errors=True)

    def _trainer(self, on_terminal: bool) -> L.Trainer:
        machine, recipe = self.machine, self.module.recipe
        finite = Finite(machine.max_nonfinite, self.work)
        # no network has running statistics, so there are no buffers to keep equal
        ddp = DDPStrategy(find_unused_parameters=self.module.freezes, forward_sync_buffers=False)
        loggers: list = []
        if machine.tensorboard:
            from lightning.pytorch.loggers import TensorBoardLogger  # here, since it takes half a second and is rarely used

            loggers = [TensorBoardLogger(self.work, name="", version="tensorboard")]
        return L.Trainer(
            max_steps=self.total_steps,
            limit_train_batches=self.epoch_steps,
            limit_val_batches=None if self.trace.val_batches else 0,
            check_val_every_n_epoch=self.module.val_every_epochs,
            num_sanity_val_steps=0,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=machine.devices // machine.nodes,
            num_nodes=machine.nodes,
            strategy=ddp if machine.devices > 1 else "auto",
            precision=recipe.precision,
            gradient_clip_val=recipe.gradient_clip,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=on_terminal,
            enable_model_summary=False,
            logger=loggers or False,
            log_every_n_steps=self.epoch_steps,
            callbacks=[
                finite,  # first, since it waits for the device now and then: `Trace` would count that as waiting for data
                *([self.watch] if self.watch else []),  # before `Trace`, which writes what it found
                self.trace,
                Checkpoints(self.work, machine.save_every, finite, self.history),
                *([TQDMProgressBar()] if on_terminal else []),
            ],
            plugins=[checkpoints.SafeCheckpoints(self.made_from)],
        )

    def _loader(self, dataset: Any, batches: Any) -> Any:
        self.loaders.append(samples.loader(dataset, batches, self.machine.workers, torch.cuda.is_available()))
        return self.loaders[-1]

    def _val_loader(self, dataset: Any) -> Any:
        """Batches of all validation samples; each process has a share."""
        numbers, size = list(range(len(dataset.rows))), self.module.recipe.global_batch
        batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
        share = batches[self.trainer.global_rank :: self.trainer.world_size]
        # Lightning needs a batch in every process; a process without a share computes one that is not counted
        return self._loader(dataset, share or batches[:1])

    def _begin(self, checkpoint: str) -> None:
        """Writes the schedule and the attempt into the work folder, and removes partial files of a killed attempt."""
        about = {
            "kind": self.module.kind,
            "out": self.machine.place,
            "total_steps": self.total_steps,
            "patches_per_step": self.module.recipe.global_batch,
        }
        curve = schedule.points(self.module.stretches, per_phase=50)
        write_tsv(self.work / SCHEDULE, [row | {"lr": f"{row['lr']:.6g}"} for row in curve])
        for folder in (self.work, self.out):
            clear_parts(folder)
        self.history.begin(about, checkpoint, self.machine.max_idle, lambda: self.trainer.global_step)

    def _explained(self, error: Exception) -> UserError | None:
        """The cause of an error that ended the training, where this project can say more than the error itself."""
        text, recipe, machine = str(error), self.module.recipe, self.machine
        if memory.ran_out(error):
            divisor, devices = self.module.encoder.divisor, machine.devices
            sizes = recipe.global_batch, recipe.patch_size
            return memory.advice(error, *sizes, divisor, devices, machine.workers, machine.execution)
        if isinstance(error, UserError) and text.startswith("Caught UserError in DataLoader worker"):
            return UserError(text.rpartition("UserError: ")[2].strip())
        if killed := re.search(r"DataLoader worker \(pid\(?s?\)? (\d+)\)(?: is killed by signal: ([\w ]+))?", text):
            source = next(filter(None, (loader.dataset.source(int(killed[1])) for loader in self.loaders)), None)
            problem = f"a loader process was killed ({killed[2] or 'unknown signal'})"
            return UserError(
                problem + (f" while it read {source[0]}" if source else ""),
                where=source[1] if source else self.work,
                fix="most often memory ran out: ask for more, or use fewer workers; then the same command continues",
            )
        return None

    def _waited_for_another(self) -> bool:
        """Takes the work folder for this process; if another copy of this training has it, after that copy's end.

        A second copy exists when Snakemake was killed and started again, or when Slurm requeued a job that Snakemake gave up.
        The lock ends with the process, however it ends.

        Raises:
            UserError: a training with other settings is running and will write the same results.
        """
        name, place = f"process{self.trainer.global_rank}.lock", self.machine.place
        for other in self.machine.work.glob("*"):
            if other != self.work and _result_of(other) == place and not locks.try_take(other / name):
                raise UserError(
                    f"another training writes its results here ({locks.holder(other / name)})",
                    where=self.out,
                    fix=f"wait for its end, or stop it; its work folder is {other}",
                )
        self.lock, waited = locks.take(self.work / name, "this training runs in another process; waiting for its end")
        return waited

    def _is_finished(self) -> bool:
        """True if the results of exactly this training are in place."""
        path = self.out / "run.json"
        return path.exists() and read_json(path).get("fingerprint") == self.key

    def _keep(self) -> None:
        """Keeps the results of a pretraining, which took days, under a second name: the next run replaces the first."""
        kept = self.out / "runs" / self.key
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for pattern in ("encoder.*", "decoder.*", "*.npz", LOG, SCHEDULE, "history.jsonl", "config.yaml", "run.json"):
            for path in self.out.glob(pattern):
                link(path, kept / path.name)


def _result_of(work: Path) -> str:
    """Result folder of the training of a work folder; '' if the folder does not say, or is being removed."""
    try:
        return read_json(work / "about.json")["out"]
    except UserError:
        return ""
