"""The command `claim`. It has its own file, since it starts before every training and must not import torch."""

from __future__ import annotations

import argparse
import os

from brainpretrain.cli.arguments import arg, command
from brainpretrain.errors import UserError
from brainpretrain.training import gpus


@command(
    "claim",
    arg("--gpus", type=int, required=True, metavar="N", help="number of GPUs"),
    arg("line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments"),
)  # fmt: skip
def claim(args: argparse.Namespace) -> None:
    """Waits until N GPUs are free, sets CUDA_VISIBLE_DEVICES to them, and replaces itself by the command.

    A GPU is free if no other command that was started in this way uses it. Without a GPU the command runs on the CPU. The
    profiles `local` and `workstation` start trainings and predictions in this way; on Slurm it is not needed.
    """
    line = args.line[1:] if args.line[:1] == ["--"] else args.line
    if not line:
        raise UserError("there is no command to run", fix="write it after --")
    claimed = gpus.claim(args.gpus, os.environ)
    print(f"GPU {', '.join(claimed)}" if claimed else "no GPU is visible: running on the CPU", flush=True)
    gpus.run_on(claimed, line, os.environ)
