"""Trainings of the tiny cohort: in this process, in a process of their own, and in several."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from brainpretrain.config.runs import finetune_run, pretrain_run
from brainpretrain.files import read_json, read_tsv
from brainpretrain.training.finetune import finetune
from brainpretrain.training.log import read_log
from brainpretrain.training.machine import Machine
from brainpretrain.training.pretrain import pretrain
from commands import Command, end_all, free_port, one_of


def machine_of(folder: Path, **changes) -> Machine:
    return Machine(**{"out": folder / "out", "work": folder / "work", "save_every": 1000, "max_idle": 3} | changes)


def pretrain_here(cohort, folder: Path, config: dict, **changes) -> Path:
    """The result folder of a pretraining; `changes` are fields of its machine."""
    pretrain(cohort.corpus, cohort.data, pretrain_run(config, "test"), machine_of(folder, **changes))
    return folder / "out"


def finetune_here(
    cohort, folder: Path, config: dict, init: Path | None = None, log_every: int = 5, table=None, **changes
) -> Path:
    """The result folder of a fine-tuning; `changes` are fields of its machine."""
    table = read_tsv(cohort.table) if table is None else table
    run = finetune_run(config, "test")
    finetune(table, cohort.folder, cohort.split, init, run, machine_of(folder, **changes), log_every)
    return folder / "out"


def line_of(cohort, folder, config, save_every) -> list[str]:
    """Arguments of the command that pretrains."""
    return [
        "pretrain", "--corpus", str(cohort.corpus), "--data", str(cohort.data), "--config", json.dumps(config),
        "--save-every", str(save_every), "--work", str(folder / "work"), "--out", str(folder / "out"),
    ]  # fmt: skip


def with_processes(cohort, folder, config, count, kind="pretrain"):
    """A training of `count` processes, which know of each other by the variables that Lightning gives its own; its output folder.

    `test_only_the_first_of_several_processes_writes` starts them by the command alone.
    """
    folder.mkdir()
    line = line_of(cohort, folder, config, 1000)
    if kind == "finetune":
        line = tiny.finetune_line(cohort, config, folder, "--log-every", "3")
    port = free_port()
    try:
        ranks = [
            Command([*line, "--devices", str(count)], folder / f"said{rank}", partial(one_of, count, rank, port))
            for rank in range(count)
        ]
        assert [rank.ended() for rank in ranks] == [0] * count, "".join(rank.said for rank in ranks)
    finally:
        end_all()
    assert read_json(folder / "out" / "run.json")["devices"] == count
    return folder / "out"


def assert_same_training(one, two, weights_file):
    """Up to the order of sums in floating point."""
    rows = [read_log(out / "log.csv") for out in (one, two)]
    assert len(rows[0]) == len(rows[1]) > 1
    names = [name for name in rows[0][0] if "loss" in name]
    for left, right in zip(*rows, strict=True):
        assert [float(left[name]) for name in names] == pytest.approx([float(right[name]) for name in names], rel=1e-4)
    tensors = [load_file(out / weights_file) for out in (one, two)]
    for name, tensor in tensors[0].items():
        assert torch.allclose(tensor, tensors[1][name], rtol=0, atol=2e-4), name
