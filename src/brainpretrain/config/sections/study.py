"""The settings of an installation and the head of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from brainpretrain.augment.config import PolicyConfig
from brainpretrain.config.sections.base import Count, Name, Section, Share
from brainpretrain.config.sections.data import Corpus, Dataset, Preprocess, Task
from brainpretrain.config.sections.tables import Release, Table
from brainpretrain.config.sections.training import Backbone, Finetune, Pretext


class Bootstrap(Section):
    """Resampling behind the intervals and ranks of the tables (docs/statistics.md) and of the label budgets."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


# a word of a Slurm command: none of them needs a blank or a quote
Word = Annotated[str, Field(pattern=r"^[\w.,:@/+&|\[\]*-]+$")]


class Site(Section):
    """What a Slurm site wants to know of a job; each value replaces that of the profile `slurm` (slurm/config.yaml)."""

    account: Word | None = None
    partition: Word | None = Field(None, description="of jobs without a GPU; several with commas")
    gpu_partition: Word | None = Field(None, description="of trainings and predictions")
    gpu_model: Word | None = Field(None, description="type of GPU, as in `--gres=gpu:<type>`")
    qos: Word | None = None
    constraint: Word | None = Field(None, description="of trainings and predictions")


class Settings(Section):
    """`config/config.yaml`: where things are, and which study to build. `config/local.yaml` has the same keys and precedes it."""

    study: str
    data_root: str
    data_roots: dict[str, str] = {}
    mirror: str = Field("", description="a folder that is searched for archives before the network is asked")
    results: str
    bootstrap: Bootstrap
    save_every_steps: Count = Field(description="optimiser steps between two checkpoints: the most that a killed training loses")
    max_idle_attempts: Count = Field(
        description="after this many attempts in a row without a new checkpoint, a training refuses to start"
    )
    max_nonfinite_steps: Count = Field(5, description="a training ends after this many steps in a row with a loss of NaN or Inf")
    near_copy: Share = Field(
        description="correlation of fingerprints from which on two volumes count as one image (docs/cohorts.md)"
    )
    tensorboard: bool = False
    execution: list[Literal["compile", "channels_last", "checkpointing"]] = Field(
        [], description="how training computes networks (training/execution.py): changes speed and memory, not the result"
    )

    profile: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="the profile of `brainpretrain run`: local, workstation, slurm, or a folder; null: by what the machine has",
    )
    slurm: Site = Field(default_factory=Site, description="account, partitions and GPU type of your Slurm site")

    @field_validator("results")
    @classmethod
    def _no_wildcards(cls, results: str) -> str:
        if set("{}") & set(results):
            raise ValueError("braces are wildcards of the workflow there; choose a folder without { and }")
        return results


class Study(Section):
    """The head of a study file."""

    title: str
    seed: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=1, le=1000)] = Field(description="draws of training cases; three or more allow intervals")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="seeds of every fine-tuning in every fold: initialisation, order of cases and augmentation; none: one"
        " training with the seed of the study, or three where protocol: fair compares arms",
    )
    protocol: Literal["fair", "paper", "free"] = Field(
        "fair",
        description="fair: rows that are compared have the same augmentation, schedule and budget, a learning rate chosen from a"
        " grid, three folds and three seeds or more; seeds and grids that are not given are filled in, anything else is refused."
        " paper: arms differ as in the paper that the study repeats. free: nothing is demanded, and a note under tables says so",
    )
    draws: Literal["disjoint"] | None = Field(
        None,
        description="disjoint: the folds share no training case of a numbered n_train; null: by the `block` of the task's split",
    )
    build: Annotated[list[Name], Field(min_length=1)]

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed occurs twice, and would count as two trainings")
        return seeds


SECTIONS: dict[str, type[Section]] = {
    "datasets": Dataset,
    "preprocess": Preprocess,
    "corpora": Corpus,
    "tasks": Task,
    "backbones": Backbone,
    "augmentations": PolicyConfig,
    "pretexts": Pretext,
    "finetune": Finetune,
    "weights": Release,
    "tables": Table,
}
