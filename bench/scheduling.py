"""The cost of Snakemake itself for 1,000 to 44,756 volumes, with empty jobs: in shards, as here, and with a job per volume.

    make bench-scheduling

No volume is read: the command `brainpretrain` is replaced by `bench/empty_work.py`. The figure
is CPU time of Snakemake and all processes that it starts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import script
from harness import ROOT

PAPER = 44_756  # volumes of the study amaes
SIZES = (1000, 5000, 20_000, PAPER)
PER_SHARD = 256
WITHIN = {"dry run": 3, "whole run of empty jobs": 10}  # seconds
PER_VOLUME = """
rule all:
    input:
        [f"out/{{n}}" for n in range({volumes})],


rule one:
    input:
        "in/{{n}}",
    output:
        "out/{{n}}",
    shell:
        ": > {{output}}"
"""


def project(folder: Path, sizes: Sequence[int]) -> dict[str, str]:
    """The workflow in `folder`, with a data set of each size and the empty command; returns the environment for Snakemake."""
    (folder / "bin").mkdir(parents=True)
    (folder / "config").mkdir()
    for name in ("rules", "envs", "local", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    for path in (ROOT / "config").iterdir():
        (folder / "config" / path.name).symlink_to(path)
    entries = {
        f"volumes_{n}": {"module": "csv", "options": {"file": "table.csv", "n_shards": math.ceil(n / PER_SHARD)}} for n in sizes
    }
    (folder / "config" / "sizes.yaml").write_text(json.dumps({"datasets": entries}))  # JSON is YAML
    command = folder / "bin" / "brainpretrain"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -S {ROOT}/bench/empty_work.py "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return dict(os.environ) | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}


def per_volume(folder: Path, volumes: int) -> None:
    """A workflow of one rule with a job per volume, and its empty inputs."""
    (folder / "in").mkdir(parents=True)
    for number in range(volumes):
        (folder / "in" / str(number)).touch()
    (folder / "Snakefile").write_text(PER_VOLUME.format(volumes=volumes))


def snakemake(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", "2", *arguments]


def whole(line: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """CPU seconds and wall-clock seconds of a command and all processes that it started.

    Raises:
        SystemExit: it failed; with the end of its output.
    """
    before, start = _children(), time.monotonic()
    done = subprocess.run(line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(line)}\n{done.stdout[-4000:]}")
    return _children() - before, time.monotonic() - start


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def scheduling(folder: Path, volumes: int, most_s: float) -> dict[str, float]:
    """CPU seconds of Snakemake's own process per finished job, with `volumes` jobs ready; stopped after `most_s` by the clock.

    Returns:
        `cost_s`, `finished` jobs, and `ready`: how many jobs were left, on average.
    """
    run = subprocess.Popen(snakemake(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        start, first = time.monotonic(), None
        while run.poll() is None and (first is None or time.monotonic() - start < most_s):
            time.sleep(0.2)
            finished = len(os.listdir(folder / "out")) if (folder / "out").exists() else 0
            if finished and first is None:
                first, start = (finished, _own(run.pid)), time.monotonic()
            if finished and run.poll() is None:
                last = (finished, _own(run.pid))
        jobs = last[0] - first[0]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    return {"cost_s": (last[1] - first[1]) / jobs, "finished": jobs, "ready": volumes - (first[0] + last[0]) / 2}


def _own(process: int) -> float:
    """CPU seconds of a process without its children."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def extrapolated(points: Sequence[Mapping[str, float]], volumes: int) -> float | None:
    """Seconds of scheduling of a whole run: the cost of a job is linear in the number of ready jobs, which decreases."""
    if len(points) < 2:
        return None
    slope, intercept = statistics.linear_regression([p["ready"] for p in points], [p["cost_s"] for p in points])
    return intercept * volumes + slope * volumes**2 / 2


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, by round; sizes are interleaved."""
    found: dict[str, Any] = {"dry": {}, "run": {}, "study": [], "per_volume_dry": {}, "scheduling": {}}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        environment = project(work / "shards", args.sizes)
        for volumes in args.sizes:
            per_volume(work / str(volumes), volumes)
        ours = snakemake("--profile", "local")
        for number in range(args.rounds):
            found["study"].append(whole([*ours, "-n"], work / "shards", environment))
            for volumes in args.sizes:
                target = f"results/data/volumes_{volumes}/amaes/fingerprints.npz"
                found["dry"].setdefault(volumes, []).append(whole([*ours, "-n", "--", target], work / "shards", environment))
                found["run"].setdefault(volumes, []).append(whole([*ours, "--", target], work / "shards", environment))
                shutil.rmtree(work / "shards" / "results")
                if number < args.peer_rounds:
                    cost = whole(snakemake("-n"), work / str(volumes), os.environ)
                    found["per_volume_dry"].setdefault(volumes, []).append(cost)
                print(
                    f"round {number + 1}, {volumes} volumes: "
                    + ", ".join(
                        f"{key} {found[key][volumes][-1][0]:.1f} s"
                        for key in ("dry", "run", "per_volume_dry")
                        if volumes in found[key]
                    ),
                    file=sys.stderr,
                )
        for volumes in args.scheduled:
            found["scheduling"][volumes] = scheduling(work / str(volumes), volumes, args.seconds)
    return found


def cpu(rounds: Sequence[Sequence[float]]) -> float:
    """Median of the CPU seconds."""
    return statistics.median(used for used, _ in rounds)


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """By number of volumes: jobs and seconds of both ways."""
    lines = []
    points = list(found["scheduling"].values())
    for volumes in found["dry"]:
        jobs = math.ceil(volumes / PER_SHARD) + 4
        peer = found["per_volume_dry"].get(volumes)
        measured, total = found["scheduling"].get(volumes), extrapolated(points, volumes)
        lines.append([
            f"{volumes:,}", str(jobs), f"{cpu(found['dry'][volumes]):.1f}", f"{cpu(found['run'][volumes]):.1f}",
            script.shown(peer and cpu(peer), ".1f"), script.shown(measured and 1e3 * measured["cost_s"], ".0f"),
            "" if total is None else _long(total),
        ])  # fmt: skip
    return lines


def _long(seconds: float) -> str:
    """Words for a time that was extrapolated."""
    unit, size = ("h", 3600) if seconds > 3600 else ("min", 60) if seconds > 60 else ("s", 1)
    return f"{seconds / size:.2g} {unit}, extrapolated"


def tables(found: Mapping[str, Any]) -> list[str]:
    """Markdown: the study with its goals, and the sizes."""
    largest = max(found["run"])
    study = [
        ["dry run of the study amaes", *_two(found["study"]), f"at most {WITHIN['dry run']} s"],
        [f"whole run of empty jobs, {largest:,} volumes in {math.ceil(largest / PER_SHARD)} shards", *_two(found["run"][largest]),
         f"at most {WITHIN['whole run of empty jobs']} s"],
    ]  # fmt: skip
    header = [
        "volumes",
        "jobs",
        "dry run, CPU s",
        "empty run, CPU s",
        "a job per volume: dry run, CPU s",
        "CPU ms per job finished",
        "whole run of empty jobs",
    ]
    return [harness.table(["this project", "CPU s", "wall s", "goal"], study), harness.table(header, rows(found))]


def _two(rounds: Sequence[Sequence[float]]) -> list[str]:
    return [f"{cpu(rounds):.2f}", f"{statistics.median(wall for _, wall in rounds):.2f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the tables."""
    parser = script.parser(__doc__, "scheduling", rounds=3, parties=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="volumes")
    parser.add_argument("--peer-rounds", type=int, default=1, help="dry runs with a job per volume")
    parser.add_argument(
        "--scheduled", type=int, nargs="*", default=SIZES[:2], metavar="N", help="of --sizes, run with a job per volume"
    )
    parser.add_argument("--seconds", type=float, default=60, help="of each of these runs")
    args = parser.parse_args(argv)
    found = measure(args)
    facts = harness.facts() | {"command": f"python bench/scheduling.py --rounds {args.rounds} --seconds {args.seconds:g}"}
    facts["machine"] = facts["machine"].replace("one used", "two used")
    figures = [harness.figure("B8", "dry run of the study amaes", "brainpretrain", "s", [used for used, _ in found["study"]])]
    for key, what, party in (
        ("dry", "dry run", "brainpretrain"),
        ("run", "empty run", "brainpretrain"),
        ("per_volume_dry", "dry run", "a job per volume"),
    ):
        figures += [
            harness.figure("B8", f"{what}, {n} volumes", party, "s", [used for used, _ in rounds])
            for n, rounds in found[key].items()
        ]
    figures += [
        harness.figure("B8", f"scheduling of a job, {n} ready", "a job per volume", "s", [row["cost_s"]])
        for n, row in found["scheduling"].items()
    ]
    largest = max(found["run"])
    of_paper = cpu(found["run"][largest]) if largest >= PAPER else None
    goals = [
        harness.goal("B8", "dry run of the study amaes, CPU s", "3 s", cpu(found["study"]), at_most=WITHIN["dry run"]),
        harness.goal(
            "B8",
            f"whole run of empty jobs, {PAPER:,} volumes, CPU s",
            "10 s",
            of_paper,
            at_most=WITHIN["whole run of empty jobs"],
        ),
    ]
    script.finish(args, facts, tables(found), figures, goals, found)


if __name__ == "__main__":
    main()
