"""Commands of the stage training that train."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from brainpretrain import allocator
from brainpretrain.cli.arguments import CORPUS, DATA, SPLIT, VOLUMES, arg, command, mapping, pairs
from brainpretrain.config.runs import FinetuneRun, Run, finetune_run, pretrain_run
from brainpretrain.files import read_mapping
from brainpretrain.plan.tuning import scaled
from brainpretrain.preprocess.stored import read_stored
from brainpretrain.training.finetune import finetune as run_finetune
from brainpretrain.training.machine import Machine
from brainpretrain.training.pretrain import pretrain as run_pretrain


def config(read: Callable[[Mapping[str, Any], str], Run]) -> tuple:
    """The argument --config, checked in the same way as the workflow checks its runs; error messages name the file."""
    return arg(
        "--config",
        type=lambda text: read(mapping(text), text[1:] if text.startswith("@") else "--config"),
        required=True,
        metavar="JSON",
        help="all settings that change the result (JSON, or @config.yaml of an earlier run)",
    )


MACHINE = (
    arg("--devices", type=int, default=1, help="GPUs (or CPU processes) on all nodes; changes the speed, never the result"),
    arg("--nodes", type=int, default=1, help="number of nodes"),
    arg("--threads", type=int, default=1, help="CPU threads per process"),
    arg("--workers", type=int, default=0, help="loader processes per device (0: samples are loaded in the training process)"),
    arg("--work", type=Path, required=True, metavar="DIR", help="folder of the resume state; deleted when the training ends"),
    arg("--save-every", type=int, default=500, metavar="STEPS", help="steps between two checkpoints; a killed run may lose them"),
    arg("--max-idle-attempts", type=int, default=5, metavar="N",
        help="consecutive attempts without a new checkpoint after which the training refuses to start"),
    arg("--max-nonfinite-steps", type=int, default=5, metavar="N",
        help="consecutive steps with a loss of NaN or Inf after which the training ends"),
    arg("--tensorboard", action="store_true", help="also write TensorBoard events"),
    arg("--execution", nargs="*", default=[], choices=["compile", "channels_last", "checkpointing"],
        help="how networks are computed; changes speed and memory, and the result by rounding only"),
)  # fmt: skip


@command(
    "pretrain",
    CORPUS, DATA, config(pretrain_run), *MACHINE,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors, log.csv, run.json ..."),
)  # fmt: skip
def pretrain(args: argparse.Namespace) -> None:
    """Trains by masked reconstruction or another pretext task. The same command continues a training that was interrupted.

    --config contains name, seed, recipe, backbone, policy and preprocess, as config.yaml of an earlier run does.
    """
    run_pretrain(args.corpus, args.data, args.config, _machine(args))


@command(
    "finetune",
    VOLUMES, SPLIT,
    arg("--init", type=Path, metavar="FILE", 
        help="encoder.safetensors of a pretraining, or model.safetensors of a fine-tuning to go on from (default: from scratch)"),
    arg("--rate", type=Path, metavar="JSON", help="output of `choose-rate`: the peak learning rate, instead of that of --config"),
    pairs("--sources", "NAME=TSV", help="stored volumes of the sources of the task, by data set"),
    config(finetune_run), *MACHINE,
    arg("--log-every", type=int, default=100, metavar="STEPS", help="steps between two rows of log.csv"),
    arg("--inference", type=mapping, metavar="JSON",
        help="sliding window that model.json will recommend; does not change the training"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for model.safetensors, transfer.tsv, run.json ..."),
)  # fmt: skip
def finetune(args: argparse.Namespace) -> None:
    """Both arms of a comparison use this command, one with --init and one without it.

    --config contains name, seed, fold, n_train, task, recipe, backbone, policy and preprocess.
    """
    table, folder = read_stored(args.volumes)
    run = _at_rate(args.config, args.rate) if args.rate else args.config
    sources = {name: Path(path) for name, path in args.sources}
    run_finetune(table, folder, args.split, args.init, run, _machine(args), args.log_every, args.inference, sources)


def _at_rate(run: FinetuneRun, path: Path) -> FinetuneRun:
    """The run with the learning rate that was chosen for it."""
    lr = float(read_mapping(path)["lr"])
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"phases": scaled(run.recipe.phases, lr)})})


def _machine(args: argparse.Namespace) -> Machine:
    if not torch.cuda.is_available():
        allocator.keep_buffers()
    return Machine(
        out=args.out,
        work=args.work,
        devices=args.devices,
        nodes=args.nodes,
        threads=args.threads,
        workers=args.workers,
        save_every=args.save_every,
        max_idle=args.max_idle_attempts,
        max_nonfinite=args.max_nonfinite_steps,
        tensorboard=args.tensorboard,
        execution=args.execution,
    )
