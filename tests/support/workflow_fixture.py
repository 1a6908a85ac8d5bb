"""A whole study, run once through Snakemake on a few small phantoms, for the tests that look at it afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import forks
from helpers import ROOT

STUDY = """
title: "Tiny: the whole workflow for tests"
seed: 0
folds: 2
protocol: free
build: [tiny]
datasets:
  phantom_tiny:
    like: phantom
    options: {subjects: 5, unlabelled_subjects: 3, sequences: [T1w], grid: {spacing_mm: [4, 5]}}
corpora:
  tiny_unlabelled:
    sources: [{dataset: phantom_tiny, subsets: [unlabelled]}]
    preprocess: coarse_4mm
    val_fraction: 0.3
    protocol: strict
preprocess:
  coarse_4mm: {like: amaes, spacing_mm: [4, 4, 4]}
tasks:
  tissue:
    note: nothing depends on this text
    dataset: phantom_tiny
    sequences: [T1w]
    subsets: [train]
    labels: {grey matter: [1], white matter: [2], lesion: [3]}
    lesions: [lesion]
    nsd_tolerance_mm: 4
    preprocess: coarse_4mm
    split: {seed: 0, test_fraction: 0.4, draw: shuffle, block: 2}
backbones:
  unet_micro: {like: unet_tiny, options: {width: 4, levels: 3}}
pretexts:
  amaes_tiny: {like: amaes, patch_size: [16, 16, 16], global_batch: 2, phases: [{epochs: 2, lr: 1.0e-3, decay: cosine}]}
finetune:
  tiny:
    like: amaes
    patch_size: [16, 16, 16]
    phases: [{steps: 6, lr: 1.0e-3, decay: cosine}]
    precision: bf16-mixed
    log_every_steps: 3
    inference: {batch: 4}
tables:
  tiny:
    title: Tiny
    columns: [{title: phantom, task: tissue, cohort: test}]
    corpus: tiny_unlabelled
    recipe: tiny
    n_train: 2
    rows:
      - {backbone: unet_micro, init: [scratch, amaes_tiny]}
"""


@dataclass
class Workflow:
    """A copy of the workflow's files in a folder of its own, with the study `tiny`."""

    root: Path

    @property
    def study(self) -> Path:
        return self.root / "config" / "studies" / "tiny.yaml"

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def snakemake(self, *arguments: str, check: bool = True, profile: str = "local", **variables: str) -> str:
        """Runs Snakemake on the study and returns what it printed. With `variables` it is started from nothing."""
        line, environment = self._line(arguments, profile, variables)
        if variables:
            done = subprocess.run(line, cwd=self.root, env=environment, capture_output=True, text=True)
            code, said = done.returncode, done.stdout + done.stderr
        else:
            with tempfile.NamedTemporaryFile("r") as stream:
                code = forks.snakemake(line[1:], self.root, environment, Path(stream.name))
                said = stream.read()
        if check:
            assert code == 0, said[-6000:]
        return said

    def start(self, *arguments: str) -> subprocess.Popen:
        """The same in the background, in a session of its own; what it prints is in `said`."""
        line, environment = self._line(arguments, "local", {})
        with open(self.root / "said", "w") as said:
            return subprocess.Popen(
                line,
                cwd=self.root,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # whether or not the tests run under nohup
            )

    def _line(self, arguments: Iterable[str], profile: str, variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        bin_dir = Path(sys.executable).parent
        path = {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
        line = [str(bin_dir / "snakemake"), "--profile", profile, "--cores", "2", "--config", "study=tiny", *arguments]
        return line, os.environ | path | dict(variables)

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs of a dry run by rule, without `all`."""
        said = self.snakemake("-n", *arguments)
        if "Nothing to be done" in said:
            return {}
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", said, re.MULTILINE | re.DOTALL)
        assert table, said[-3000:]
        rows = (line.split() for line in table[1].splitlines())
        return {name: int(count) for name, count in rows if name != "all"}


def copy(root: Path) -> Workflow:
    for name in ("config", "envs", "rules", "local", "workstation", "slurm"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.sif"))
    shutil.copy(ROOT / "Snakefile", root)
    workflow = Workflow(root)
    workflow.study.write_text(STUDY)
    return workflow
