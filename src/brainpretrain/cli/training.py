"""Commands of the stage training that train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from brainpretrain.cli.arguments import CORPUS, DATA, SPLIT, VOLUMES, arg, command, mapping
from brainpretrain.preprocess.stored import read_stored
from brainpretrain.training import run as training

CONFIG = arg(
    "--config", type=mapping, required=True, metavar="JSON",
    help="settings that change the result (JSON, or @config.yaml of an earlier run)",
)  # fmt: skip
MACHINE = (
    arg("--devices", type=int, default=1, help="GPUs (or CPU processes) over all nodes; changes the speed, never the result"),
    arg("--nodes", type=int, default=1, help="nodes"),
    arg("--threads", type=int, default=1, help="CPU threads per process"),
    arg("--workers", type=int, default=0, help="loader processes per device (0: load in the training process)"),
    arg("--work", type=Path, required=True, metavar="DIR", help="where resume state is kept until the training ends"),
    arg("--save-every", type=int, default=500, metavar="STEPS", help="steps between two checkpoints: what a killed run may lose"),
    arg("--max-idle-attempts", type=int, default=5, metavar="N", help="attempts in a row that save nothing"),
    arg("--max-nonfinite-steps", type=int, default=5, metavar="N", help="steps in a row with a loss of NaN or Inf"),
    arg("--tensorboard", action="store_true", help="also write TensorBoard events"),
    arg("--execution", nargs="*", default=[], choices=["compile", "channels_last", "checkpointing"],
        help="how networks are computed; changes speed and memory, but for rounding never the result"),
)  # fmt: skip


@command(
    "pretrain",
    CORPUS, DATA, CONFIG, *MACHINE,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors, log.csv, run.json ..."),
)  # fmt: skip
def pretrain(args: argparse.Namespace) -> None:
    """Masked reconstruction, or another pretext task. Killed or out of time, the same command continues.

    --config holds name, seed, recipe, backbone, policy and preprocess; an earlier run's config.yaml fits.
    """
    training.pretrain(args.corpus, args.data, args.config, _run(args))


@command(
    "finetune",
    VOLUMES, SPLIT,
    arg("--init", type=Path, metavar="FILE", help="encoder.safetensors of a pretraining; without it, from scratch"),
    CONFIG, *MACHINE,
    arg("--log-every", type=int, default=100, metavar="STEPS", help="steps between two rows of log.csv"),
    arg("--inference", type=mapping, metavar="JSON", help="sliding window that model.json recommends; changes no training"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for model.safetensors, transfer.tsv, run.json ..."),
)  # fmt: skip
def finetune(args: argparse.Namespace) -> None:
    """Both arms of a comparison are this command, one with --init and one without.

    --config holds name, seed, fold, n_train, task, recipe, backbone, policy and preprocess.
    """
    table, folder = read_stored(args.volumes)
    training.finetune(table, folder, args.split, args.init, args.config, _run(args, args.log_every, args.inference))


def _run(args: argparse.Namespace, log_every: int = 0, inference: dict[str, Any] | None = None) -> Any:
    machine = (args.devices, args.nodes, args.threads, args.workers, args.save_every, args.tensorboard, args.max_idle_attempts)
    return training.Run(args.out, args.work, *machine, log_every, args.execution, inference, args.max_nonfinite_steps)
