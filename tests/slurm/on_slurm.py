"""A copy of the workflow that runs on the test cluster, and what Slurm says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster

import workflow_fixture
from helpers import ROOT

LONG = 120  # steps of a training that is to be hit; each epoch is a step
# what a site would not shorten: how long after submission, and how often, states are asked for
QUICK = ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10"]


@dataclass
class OnSlurm:
    """A copy of the workflow, driven with `--profile slurm`."""

    workflow: workflow_fixture.Workflow
    cluster: Cluster

    @property
    def root(self) -> Path:
        return self.workflow.root

    @property
    def results(self) -> Path:
        return self.workflow.results

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.cluster.environment['PATH']}"
        return os.environ | self.cluster.environment | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

    def line(self, *arguments: str) -> list[str]:
        return ["snakemake", "--profile", "slurm", *QUICK, "--config", "study=tiny", "save_every_steps=20", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake in the background; what it says is in run.log."""
        with open(self.root / "run.log", "w") as log:
            return subprocess.Popen(
                self.line(*arguments), cwd=self.root, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip

    def run(self, *arguments: str, code: int = 0, timeout_s: int = 600) -> str:
        process = self.start(*arguments)
        try:
            process.wait(timeout_s)
        finally:
            process.kill()
        assert process.returncode == code, self.said
        return self.said

    @property
    def said(self) -> str:
        return (self.root / "run.log").read_text()

    def jobs(self) -> list[dict[str, str]]:
        """Every job of this copy that Slurm has seen, in order, as Slurm tells it."""
        fields = {"job": "%i", "rule": "%k", "state": "%T", "memory": "%m", "folder": "%Z"}
        listed = self.cluster.run("squeue", "--noheader", "--states=all", "--sort=i", f"--format={'|'.join(fields.values())}")
        rows = [dict(zip(fields, line.split("|"), strict=True)) for line in listed.splitlines()]
        return [row for row in rows if row["folder"] == str(self.root)]

    def counts(self) -> dict[str, int]:
        """Jobs by rule that Slurm ran."""
        return dict(Counter(row["rule"].removeprefix("rule_").split("_wildcards")[0] for row in self.jobs()))

    def restarts(self, job: str) -> int:
        return int(self.cluster.run("scontrol", "show", "job", job).split("Restarts=")[1].split()[0])

    def release(self, job: str) -> None:
        """Slurm lets a requeued job wait two minutes, until its nodes are free of it; the tests look whether they are."""
        until(lambda: "State=PENDING" in self.cluster.run("scontrol", "show", "job", job))
        until(lambda: f"slurmstepd: [{job}." not in subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout)
        time.sleep(3)  # slurmd notices a moment later
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def running(self, rule: str) -> str:
        """Number of the running job of a rule, once there is one."""
        return until(
            lambda: next((row["job"] for row in self.jobs() if rule in row["rule"] and row["state"] == "RUNNING"), None), self
        )

    def checkpoint(self, step: int) -> int:
        """The newest saved step, once it is `step` or behind it."""

        def newest() -> int | None:
            steps = [int(path.name[5:]) for path in self.root.glob("results/work/*/step-*")]
            return max(steps) if steps and max(steps) >= step else None

        return until(newest, self)


def until(look: Callable, of: OnSlurm | None = None, patience_s: int = 180):
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited in vain for {look}:\n{of.said if of else ''}")
