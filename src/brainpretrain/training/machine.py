"""The machine of a training: where it writes and how fast it runs. Nothing here changes the result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainpretrain.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Options of a training that leave its result as it is.

    Args:
        out: folder of the results.
        work: parent of the work folders, which hold the resume state until the end.
        devices: GPUs over all nodes, one process each; without a GPU as many CPU processes.
        nodes: number of nodes that the devices are spread over.
        threads: CPU threads of each process.
        workers: loader processes of each process; 0 loads in the process itself.
        save_every: optimiser steps between two checkpoints.
        max_idle: number of attempts in a row without a new checkpoint after which no further attempt is made.
        max_nonfinite: number of steps in a row with a loss of NaN or Inf after which the training ends.
        tensorboard: also write TensorBoard events.
        execution: how networks are computed, see `execution.apply`.

    Raises:
        UserError: devices cannot be spread over the nodes, or `max_nonfinite` is below 1.
    """

    out: Path
    work: Path
    devices: int = 1
    nodes: int = 1
    threads: int = 1
    workers: int = 0
    save_every: int = 500
    max_idle: int = 5
    max_nonfinite: int = 5
    tensorboard: bool = False
    execution: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.devices % self.nodes:
            raise UserError(f"{self.devices} devices cannot be spread over {self.nodes} nodes", where="--devices, --nodes")
        if self.max_nonfinite < 1:
            problem = f"{self.max_nonfinite} is not a number of steps"
            raise UserError(problem, where="--max-nonfinite-steps", fix="give 1 or more")

    @property
    def place(self) -> str:
        """The result folder, relative to the folder of all results (the parent of `work`)."""
        return os.path.relpath(self.out.resolve(), self.work.resolve().parent)
