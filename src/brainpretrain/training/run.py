"""Pretraining and fine-tuning: two LightningModules, one way to fit them, and what they leave as results."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from brainpretrain import backbones, decoders, locks, memory, pretext, provenance
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import parameters, stem
from brainpretrain.cohorts import splits
from brainpretrain.cohorts.cases import IGNORED, label_lookup, labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, clear_parts, fingerprint, link, read_json, sha256, write_json, write_tsv
from brainpretrain.training import callbacks as trace
from brainpretrain.training import checkpoints, execution, losses, schedule
from brainpretrain.training import samples as data
from brainpretrain.training.history import History, recorded
from brainpretrain.weights import store as weights

# one line per epoch is ours to write; Lightning's own lines are advice and hardware lists, told again in run.json
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")  # slurm/launch.sh calls it where it is needed
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # StepSampler is: it asks for the step


SCHEDULE = "schedule.tsv"  # the planned learning rates, beside log.csv; no rule declares it, see docs/decisions.md


class _Module(L.LightningModule):
    """What both trainings share: batches augmented on the device, phases, optimiser."""

    def __init__(self, recipe: Mapping[str, Any], policy: Policy, stretches: list[schedule.Stretch]) -> None:
        super().__init__()
        self.recipe, self.policy, self.stretches = recipe, policy, stretches
        self.patch = recipe["patch_size"]

    @property
    def freezes(self) -> bool:
        """Some phase leaves a part of the network as it is."""
        return any(stretch.train != "all" for stretch in self.stretches)

    def augmented(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Input, and label if the batch has one or else target; spatial transforms move both, intensity ones the input."""
        return self.policy.apply(batch["image"], batch["draws"], batch.get("label"))

    def shown(self, scalars: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The scalars of a step; the loss also stands in the progress bar, where there is one."""
        if self.trainer.progress_bar_callback:
            self.log("loss", scalars["loss"], prog_bar=True, logger=False)
        return scalars

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """What a network draws by itself, dropout say, is a function of the samples as all else is, and so of the step."""
        torch.manual_seed(int(batch["seed"][0]))
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Freezes and frees parts of the encoder at the border of two phases.

        Nothing moves what is frozen: it gets no gradient, and optimisers pass over what has none, with weight decay and momentum.
        """
        train = schedule.stretch_at(self.stretches, self.global_step).train
        self.encoder.requires_grad_(train in ("all", "all_but_stem"))
        stem(self.encoder).requires_grad_(train in ("all", "decoder_and_stem"))

    def on_train_start(self) -> None:
        """What a resume loaded is as the checkpoint has it."""
        execution.align(self.trainer.optimizers[0])

    def configure_optimizers(self) -> Any:
        precision, clips = self.recipe["precision"], self.recipe["gradient_clip"] is not None
        # Lightning clips no gradients of a fused optimiser in mixed precision
        fused = precision == "32-true" or (precision == "bf16-mixed" and not clips)
        # fused SGD wants momentum of all parameters or of none: those that are freed later have none yet
        fused &= not (self.freezes and self.recipe["optimizer"]["name"] == "sgd")
        optimizer = make_optimizer(list(self.parameters()), self.recipe["optimizer"], fused)
        curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.stretch_at(self.stretches, step).lr_at(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curve, "interval": "step"}}


class Pretraining(_Module):
    """A pretext task on batches of `data.PretrainPatches`."""

    kind = "pretraining"

    def __init__(self, task: nn.Module, *args: Any) -> None:
        super().__init__(*args)
        self.task = task

    @property
    def encoder(self) -> nn.Module:
        return self.task.encoder

    @property
    def decoders(self) -> list[nn.Module]:
        return [module for name, module in self.task.named_children() if name != "encoder"]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, target = self.augmented(batch)
        return self.shown(self.task(image, target, batch["seed"]))

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, target = self.augmented(batch)  # with a policy that draws nothing
        return self.task(image, target, batch["seed"])


class Finetuning(_Module):
    """Supervised segmentation on batches of `data.FinetunePatches`."""

    kind = "fine-tuning"

    def __init__(self, network: decoders.Segmenter, *args: Any) -> None:
        super().__init__(*args)
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    @property
    def decoders(self) -> list[nn.Module]:
        return [self.network.decoder]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, label = self.augmented(batch)
        loss = losses.deep(self.network(image), label, IGNORED, **self.recipe["loss"])
        return self.shown({"loss": loss})


def check_precision(precision: str, patch: list[int], stride: int) -> None:
    """Refuses what a CPU cannot compute in this precision; a GPU can.

    Seen with torch 2.13 (oneDNN 3.12) on a processor with bf16 instructions: gradients of 3-D convolutions over a feature
    map of 2 voxels along x are garbage, different in every run.

    Args:
        precision: of the recipe.
        patch: its patch size in voxels.
        stride: cumulative downsampling of the coarsest feature map.

    Raises:
        UserError: 16-bit floats on a CPU, or bf16 with a coarsest feature map below 3 voxels along x.
    """
    if torch.cuda.is_available() or precision == "32-true":
        return
    if precision == "16-mixed":
        raise UserError("precision 16-mixed needs a GPU", where="recipe", fix="use bf16-mixed or 32-true")
    if patch[0] // stride < 3:
        coarsest = f"{patch[0] // stride} voxels (patch {patch[0]}, stride {stride})"
        raise UserError(
            f"bf16 on a CPU is wrong for a coarsest feature map of {coarsest}",
            where="recipe",
            fix="use precision 32-true, a larger patch or fewer levels",
        )


def make_optimizer(parameters: list[nn.Parameter], spec: Mapping[str, Any], fused: bool) -> torch.optim.Optimizer:
    """Optimiser with learning rate 1, which the phase's curve multiplies."""
    options = {key: value for key, value in spec.items() if key != "name"}
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[spec["name"]]
    return kind(parameters, lr=1.0, fused=fused, **options)


class Run:
    """Machine and places of one training; nothing in it changes the result.

    Args:
        out: folder of the results.
        work: folder of work folders, where resume state lives until the end.
        devices: GPUs over all nodes, a process each; without a GPU so many CPU processes.
        nodes: they are spread over so many.
        threads: CPU threads of this process.
        workers: loader processes.
        save_every: optimiser steps between two checkpoints.
        max_idle: attempts in a row without a new checkpoint after which no further one is made.
        max_nonfinite: steps in a row whose loss is not finite after which the training ends.
        log_every: optimiser steps between two rows of log.csv, where epochs mean nothing (fine-tuning).
        execution: how networks are computed, see `execution.apply`.
        inference: settings of the sliding window, for model.json; training knows nothing of them.
    """

    def __init__(
        self,
        out: Path,
        work: Path,
        devices: int,
        nodes: int,
        threads: int,
        workers: int,
        save_every: int,
        tensorboard: bool,
        max_idle: int,
        log_every: int = 0,
        execution: Sequence[str] = (),
        inference: Mapping[str, Any] | None = None,
        max_nonfinite: int = 5,
    ) -> None:
        self.out, self.work_root, self.save_every, self.log_every = Path(out), Path(work), save_every, log_every
        self.devices, self.nodes, self.threads, self.workers = devices, nodes, threads, workers
        self.tensorboard, self.max_idle, self.max_nonfinite = tensorboard, max_idle, max_nonfinite
        self.execution, self.inference = list(execution), inference
        self.loaders: list[Any] = []
        self.history: History | None = None
        self.lock: locks.Lock | None = None
        if devices % nodes:
            raise UserError(f"{devices} devices cannot be spread over {nodes} nodes", where="--devices, --nodes")
        if max_nonfinite < 1:
            raise UserError(f"{max_nonfinite} is no number of steps", where="--max-nonfinite-steps", fix="give 1 or more")
        torch.set_num_threads(threads)
        machine = {"devices": devices, "threads": threads, "workers": workers, "execution": self.execution}
        self.facts = provenance.facts() | machine

    def loader(self, dataset: Any, batches: Any) -> Any:
        self.loaders.append(data.loader(dataset, batches, self.workers, torch.cuda.is_available()))
        return self.loaders[-1]

    def fit(self, module: _Module, train: Any, val: Any, made_from: Mapping[str, Any], epoch_steps: int) -> bool:
        """Trains to the end, from the newest checkpoint of the work folder if there is one.

        Args:
            made_from: what the result is a function of, as plain data; its fingerprint names the work folder.

        Returns:
            False if another copy of this training ran, was waited for, and has left the results.

        Raises:
            UserError: fewer processes run than devices were asked for, another training writes the same results, the
                checkpoint is of another training, memory or disk run out, a loader process was killed, the loss is not
                finite, or attempts get nowhere.
        """
        self.key = fingerprint(*made_from.values())
        self.work = self.work_root / self.key
        self.history = History(self.work)
        check_precision(module.recipe["precision"], module.patch, module.encoder.strides[-1])
        execution.apply([module.encoder, *module.decoders], self.execution)
        total, global_batch = schedule.total_steps(module.stretches), module.recipe["global_batch"]
        tty = sys.stdout.isatty()
        self.trace = trace.Trace(self.work / "log.csv", global_batch, epoch_steps, total, quiet=tty)
        self.lightning = trainer = self.trainer(module, total, epoch_steps, bool(val), tty, made_from)
        if trainer.world_size != self.devices:
            raise UserError(
                f"{trainer.world_size} process(es) run, but {self.devices} device(s) were asked for",
                fix="start one task per device (on Slurm: tasks_per_node and launcher, see slurm/README.md)",
            )
        if self.waited_for_another() and self.is_finished():
            print("another copy of this training has just finished it: nothing left to do", flush=True)
            return False
        last, damaged = checkpoints.newest(self.work)
        for line in damaged:
            print(line, flush=True)
        if last:
            checkpoints.require_same(last, made_from)
        sampler = data.StepSampler(
            global_batch, epoch_steps, total, lambda: trainer.global_step, trainer.global_rank, trainer.world_size
        )
        if trainer.is_global_zero:
            self.begin(module, total, last)
        self.facts["resumed_from"] = last.name if last else ""
        try:
            trainer.fit(
                module,
                self.loader(train, sampler),
                val_loader(self, val, trainer, global_batch),
                ckpt_path=str(last) if last else None,
                weights_only=True,
            )
        except Exception as error:
            if told := self.explained(error, module):
                raise told from error
            raise
        peak = round(memory.peak_gb(), 3)
        self.trainer_facts = {"global_rank": trainer.global_rank, "steps": trainer.global_step, "peak_memory_gb": peak}
        return True

    def begin(self, module: _Module, total: int, last: Path | None) -> None:
        """Writes the schedule and the attempt into the work folder, and clears away what a killed one left there half-written."""
        about = {
            "kind": module.kind,
            "out": self.place(),
            "total_steps": total,
            "patches_per_step": module.recipe["global_batch"],
        }
        curve = schedule.points(module.stretches, per_phase=50)
        write_tsv(self.work / SCHEDULE, [row | {"lr": f"{row['lr']:.6g}"} for row in curve])
        for folder in (self.work, self.out):
            clear_parts(folder)
        self.history.begin(about, last.name if last else "", self.max_idle, lambda: self.lightning.global_step)

    def place(self) -> str:
        """Where the results go, relative to the folder of all results."""
        return os.path.relpath(self.out.resolve(), self.work_root.resolve().parent)

    def explained(self, error: Exception, module: _Module) -> UserError | None:
        """What ended a training, in the words of this project where they say more than the error itself."""
        text = str(error)
        if memory.ran_out(error):
            recipe, machine = module.recipe, (self.devices, self.workers, self.execution)
            return memory.advice(error, recipe["global_batch"], recipe["patch_size"], module.encoder.divisor, *machine)
        if isinstance(error, UserError) and text.startswith("Caught UserError in DataLoader worker"):
            return UserError(text.rpartition("UserError: ")[2].strip())
        if killed := re.search(r"DataLoader worker \(pid\(?s?\)? (\d+)\)(?: is killed by signal: ([\w ]+))?", text):
            found = next(filter(None, (loader.dataset.source(int(killed[1])) for loader in self.loaders)), None)
            what = f"a loader process was killed ({killed[2] or 'unknown signal'})"
            return UserError(
                what + (f" while it read {found[0]}" if found else ""),
                where=found[1] if found else self.work,
                fix="most often memory ran out: ask for more, or use fewer workers; then the same command continues",
            )
        return None

    def waited_for_another(self) -> bool:
        """Takes the work folder for this process, after the end of any other copy of this training that has it.

        A copy exists when Snakemake was killed and started again, or when Slurm requeued a job that Snakemake gave up.
        The lock goes with the process, however it ends.

        Raises:
            UserError: a training from other settings runs that will write the same results.
        """
        name = f"process{self.lightning.global_rank}.lock"
        for other in self.work_root.glob("*"):
            if other != self.work and _result_of(other) == self.place() and not locks.try_take(other / name):
                raise UserError(
                    f"another training writes its results here ({locks.holder(other / name)})",
                    where=self.out,
                    fix=f"wait for its end, or stop it; its work folder is {other}",
                )
        self.lock, waited = locks.take(self.work / name, "this training runs in another process; waiting for its end")
        return waited

    def is_finished(self) -> bool:
        """The results of this very training are in place."""
        path = self.out / "run.json"
        return path.exists() and read_json(path).get("fingerprint") == self.key

    def trainer(
        self, module: _Module, total: int, epoch_steps: int, validates: bool, tty: bool, made_from: Mapping[str, Any]
    ) -> L.Trainer:
        recipe = module.recipe
        finite = trace.Finite(self.max_nonfinite, self.work)
        # no running statistics anywhere, so no buffer to keep alike
        ddp = DDPStrategy(find_unused_parameters=module.freezes, forward_sync_buffers=False)
        loggers: list = []
        if self.tensorboard:
            from lightning.pytorch.loggers import TensorBoardLogger

            loggers = [TensorBoardLogger(self.work, name="", version="tensorboard")]
        return L.Trainer(
            max_steps=total,
            limit_train_batches=epoch_steps,
            limit_val_batches=None if validates else 0,
            check_val_every_n_epoch=recipe.get("val_every_epochs", 1),
            num_sanity_val_steps=0,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=self.devices // self.nodes,
            num_nodes=self.nodes,
            strategy=ddp if self.devices > 1 else "auto",
            precision=recipe["precision"],
            gradient_clip_val=recipe["gradient_clip"],
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=tty,
            enable_model_summary=False,
            logger=loggers or False,
            log_every_n_steps=epoch_steps,
            callbacks=[
                finite,  # it waits for the device now and then, which is no waiting for data
                self.trace,
                trace.Checkpoints(self.work, self.save_every, finite, self.history),
                *([TQDMProgressBar()] if tty else []),
            ],
            plugins=[checkpoints.SafeCheckpoints(made_from)],
        )

    def end(self) -> None:
        """All processes leave together: one that left early would look like the end of the training to a waiting copy."""
        self.lightning.strategy.barrier()
        self.lock.release()

    def failed(self, error: BaseException) -> None:
        """Leaves a line of the error, and the work folder to the next attempt."""
        if self.history:
            self.history.failed(error)
        if self.lock:
            self.lock.release()

    def finish(self, kind: str, name: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Moves log, schedule and history to the results, writes config.yaml and run.json, and clears the work folder."""
        import yaml

        for file in ("log.csv", SCHEDULE):
            with atomic(self.out / file) as temporary:
                shutil.copyfile(self.work / file, temporary)
        with atomic(self.out / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        run = {
            "kind": kind,
            "name": name,
            "fingerprint": self.key,
            **self.facts,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "precision": config["recipe"]["precision"],
            "peak_memory_gb": self.trainer_facts["peak_memory_gb"],
            **self.trace.summary(),
            **self.history.summary(),
            "steps": self.trainer_facts["steps"],
            **facts,
            "config": dict(config),
        }
        write_json(self.out / "run.json", run)
        tensorboard = self.work / "tensorboard"
        if tensorboard.exists():
            shutil.copytree(tensorboard, self.out / "tensorboard", dirs_exist_ok=True)
        self.history.finish(self.out)
        if kind == "pretraining":
            self._keep()
        shutil.rmtree(self.work, ignore_errors=True)

    def _keep(self) -> None:
        """The results under a second name: the run after an edit replaces the first, which took days."""
        kept = self.out / "runs" / self.key
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for pattern in ("encoder.*", "*.npz", "log.csv", SCHEDULE, "history.jsonl", "config.yaml", "run.json"):
            for path in self.out.glob(pattern):
                link(path, kept / path.name)


def _result_of(work: Path) -> str:
    """Where the training of a work folder writes its results; '' if it does not say, or is just going."""
    try:
        return read_json(work / "about.json")["out"]
    except UserError:
        return ""


def val_loader(run: Run, dataset: Any, trainer: L.Trainer, global_batch: int) -> Any:
    """Batches of all validation samples, each process its share; None without validation volumes."""
    if not dataset:
        return None
    every = list(range(len(dataset.rows)))
    batches = [every[first : first + global_batch] for first in range(0, len(every), global_batch)]
    run.trace.val_batches = len(batches)
    mine = batches[trainer.global_rank :: trainer.world_size]
    return run.loader(dataset, mine or batches[:1])  # Lightning wants a batch in every process; this one is not counted


@recorded
def pretrain(corpus: Path, folder: Path, config: Mapping[str, Any], run: Run) -> None:
    """Trains a pretext task and writes encoder.safetensors|json, log.csv, run.json, config.yaml, reconstruction.npz.

    Args:
        corpus: corpus.tsv with roles.
        folder: the data folder that the corpus is relative to.
        config: `name`, `seed`, `recipe` (pretext), `backbone`, `policy`, `preprocess`, as plain data.
        run: machine and places.

    Raises:
        UserError: bad corpus or options, or a training that cannot go on.
    """
    recipe, seed = config["recipe"], config["seed"]
    rows = pd.read_csv(corpus, sep="\t", dtype=str, keep_default_na=False)
    L.seed_everything(seed, verbose=False)
    encoder = backbones.build(config["backbone"]["architecture"], 1, **config["backbone"]["options"])
    task = pretext.build(recipe["method"], encoder, 1, **recipe["options"])
    policy, patch = Policy(config["policy"]), recipe["patch_size"]
    train_rows, val_rows = rows[rows["role"] == "train"], rows[rows["role"] == "val"]
    train = data.PretrainPatches(train_rows, folder, patch, policy, seed)
    plain = Policy({})
    val = data.PretrainPatches(val_rows, folder, patch, plain, seed + 1) if len(val_rows) else None
    epoch_steps = max(1, len(train_rows) // recipe["global_batch"])
    module = Pretraining(task, recipe, policy, schedule.stretches(recipe["phases"], epoch_steps))
    if not run.fit(module, train, val, {"config": dict(config), "corpus": sha256(corpus)}, epoch_steps):
        return
    if run.trainer_facts["global_rank"]:
        return run.end()
    by_dataset = rows.groupby("dataset")["subject"]
    facts = {
        "parameters": parameters(task),
        "encoder_parameters": parameters(encoder),
        "datasets": {name: {"subjects": found.nunique(), "volumes": len(found)} for name, found in by_dataset},
        "volumes": len(train_rows),
        "val_volumes": len(val_rows),
        "subjects": int(rows[["dataset", "subject"]].drop_duplicates().shape[0]),
    }
    weights.save(run.out / "encoder", encoder.state_dict(), _encoder_facts(config, run, corpus, facts))
    task.to(run.lightning.strategy.root_device)  # Lightning has left it on the CPU
    _save_reconstructions(
        run.out / "reconstruction.npz", task, val or data.PretrainPatches(train_rows, folder, patch, plain, seed)
    )
    run.finish("pretraining", config["name"], config, facts)
    run.end()


def _encoder_facts(config: Mapping[str, Any], run: Run, corpus: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must travel with an encoder."""
    return {
        "kind": "encoder",
        "name": config["name"],
        "backbone": config["backbone"],
        "in_channels": 1,
        "preprocess": config["preprocess"],
        "patch_size": config["recipe"]["patch_size"],
        "corpus_sha256": sha256(corpus),
        "steps": run.trainer_facts["steps"],
        "commit": run.facts["commit"],
        **facts,
    }


def _save_reconstructions(path: Path, task: nn.Module, dataset: data.PretrainPatches, n: int = 4) -> None:
    """Middle axial slices of what the network makes of the first few samples."""
    n = min(n, len(dataset.rows))
    items = [dataset[number] for number in range(n)]
    image = torch.stack([item["image"] for item in items]).float().to(next(task.parameters()).device)
    task.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # to compile for four patches takes longer than they
        parts = task.reconstruct(image, image, [item["seed"] for item in items])
    middle = image.shape[-1] // 2
    slices = {name: parts[name][:, 0, :, :, middle].float().cpu().numpy() for name in ("input", "masked", "output", "target")}
    hidden = parts["hidden"][:, 0, :, :, middle].cpu().numpy()
    names = np.array([dataset.rows[dataset.volume_of(number)]["volume"] for number in range(n)])
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, hidden=hidden, names=names, **slices)


@recorded
def finetune(tables: pd.DataFrame, folder: Path, split: Path, init: Path | None, config: Mapping[str, Any], run: Run) -> None:
    """Trains a segmentation network and writes model.safetensors|json, transfer.tsv, log.csv, run.json, config.yaml.

    Args:
        tables: the stored volumes of the task's data set.
        folder: the folder that they are relative to.
        split: JSON of the fold.
        init: encoder file of a pretraining, or None from scratch.
        config: `name`, `seed`, `fold`, `n_train`, `task`, `recipe`, `backbone`, `policy`, `preprocess`.
        run: machine and places.

    Raises:
        UserError: too few cases, an encoder that does not fit, or a training that cannot go on.
    """
    recipe, task = config["recipe"], config["task"]
    by_subject = labelled_cases(tables, folder, task["sequences"])
    subjects = splits.training_subjects(read_json(split), set(by_subject), config["n_train"])
    cases = [case for subject in subjects for case in by_subject[subject]]
    seed = data.sample_seed(config["seed"], config["fold"]) % 2**32
    L.seed_everything(seed, verbose=False)
    network = decoders.build_network(config["backbone"], len(task["sequences"]), len(task["labels"]) + 1)
    report = _load_init(network, init, config)
    policy, patch = Policy(config["policy"]), recipe["patch_size"]
    lookup = label_lookup(task["labels"], task["ignore"])
    train = data.FinetunePatches(cases, lookup, patch, policy, recipe["foreground_fraction"], seed)
    epoch_steps = run.log_every
    module = Finetuning(network, recipe, policy, schedule.stretches(recipe["phases"], epoch_steps))
    stored = [[row["checksum"], row["label_checksum"]] for case in cases for row in case.rows]
    made_from = {
        "config": dict(config),
        "cases": stored,
        "init": sha256(init) if init else "scratch",
        "log_every_steps": run.log_every,
    }
    if not run.fit(module, train, None, made_from, epoch_steps):
        return
    if run.trainer_facts["global_rank"]:
        return run.end()
    facts = {"parameters": parameters(network), "cases": len(cases), "train_subjects": subjects, "transferred": len(report)}
    model = {"kind": "model", "in_channels": len(task["sequences"]), "commit": run.facts["commit"], **dict(config), **facts}
    weights.save(run.out / "model", network.state_dict(), model | {"classes": list(task["labels"]), "inference": run.inference})
    write_tsv(run.out / "transfer.tsv", report, ["tensor", "shape", "status"])
    run.finish("fine-tuning", config["name"], config, facts)
    run.end()


def _load_init(network: decoders.Segmenter, init: Path | None, config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Loads a pretrained encoder, after checking that it saw what this task will show it.

    Raises:
        UserError: another architecture, or other preprocessing, or unknown preprocessing.
    """
    if init is None:
        return []
    tensors, facts = weights.load(init)
    weights.check_facts(facts, init.with_suffix(".json"))
    if facts["preprocess"] is None:
        raise UserError(
            "the encoder does not say how its volumes were prepared", where=init, fix="import it again, with --preprocess"
        )
    for part in ("spacing_mm", "upper_quantile", "crop"):
        pretrained, wanted = facts["preprocess"][part], config["preprocess"][part]
        if pretrained != wanted:
            raise UserError(
                f"the encoder was pretrained with {part} {pretrained}, the task is prepared with {wanted}",
                where=init,
                fix="give the task and the corpus the same preprocess recipe",
            )
    divide = config["recipe"].get("stem", "divide") == "divide"  # left out of the recipe where it is the default
    report = weights.load_encoder(network.encoder, tensors, divide, init)
    repeated = sum(row["status"] != "loaded" for row in report)
    print(
        f"transferred {len(report)} of {len(report)} encoder tensors ({repeated} repeated over channels) from {init}", flush=True
    )
    return report
