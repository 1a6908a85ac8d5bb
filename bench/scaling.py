"""Growth of the cost: preprocessing over processes, the loader over workers, planning over volumes, the report over cases.

    make bench-scaling

Planning is read from the JSON of bench/scheduling.py. Each curve is drawn with its straight line into docs/benchmarks/. The
first two show wall-clock time, since they are about parallel work: other work on the machine distorts them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import harness
import script
from brainpretrain import config
from brainpretrain.augment.policy import Policy
from brainpretrain.evaluation import metrics
from brainpretrain.files import read_json, write_tsv
from brainpretrain.plan import tables as plan
from brainpretrain.plan.runs import Plan
from brainpretrain.preprocess import shards
from brainpretrain.report import write
from brainpretrain.report.figures import cases
from brainpretrain.report.figures.canvas import figure_at
from brainpretrain.training import samples as data
from harness import ROOT

PICTURES = ROOT / "docs" / "benchmarks"
LINEAR = 0.99  # share of the variance that a straight line must explain
REAL = [
    *(f"oasis_trt20_mindboggle/OASIS-TRT-20-{n:02d}/T1_brain.nii.gz" for n in (1, 2, 3)),
    "isles22/docker_case_A/FLAIR.nii.gz", "isles22/docker_case_A/DWI.nii.gz", "isles22/sub-strokecase0009/FLAIR.nii.gz",
]  # fmt: skip


class Curve(NamedTuple):
    """One quantity over another; `rounds` of each point."""

    name: str
    title: str
    over: str
    unit: str
    points: Mapping[int, Sequence[float]]

    @property
    def medians(self) -> tuple[list[int], list[float]]:
        return list(self.points), [statistics.median(values) for values in self.points.values()]

    def line(self) -> tuple[float, float, float | None]:
        """Slope, intercept and explained share of the variance; the latter is None for two points, which are on a line."""
        x, y = self.medians
        if len(x) < 2:
            return 0.0, y[0], None
        slope, intercept = statistics.linear_regression(x, y)
        return slope, intercept, statistics.correlation(x, y) ** 2 if len(x) > 2 and len(set(y)) > 1 else None

    @property
    def fit(self) -> str:
        slope, intercept, explained = self.line()
        if explained is None:
            return "two points"
        return f"{'linear' if explained >= LINEAR else 'not linear'}: {intercept:.3g} + {slope:.3g} x, R² {explained:.3f}"

    def draw(self, folder: Path) -> None:
        """A small picture, the points and the line."""
        x, y = self.medians
        slope, intercept, _ = self.line()
        with figure_at(folder / f"{self.name}.svg", 420, 280) as figure:
            axes = figure.subplots()
            axes.plot(x, y, "o", color="#0b5cad")
            axes.plot([0, max(x)], [intercept, intercept + slope * max(x)], "-", color="#8c959f", linewidth=1)
            axes.set(xlabel=self.over, ylabel=self.unit, xlim=(0, 1.05 * max(x)), ylim=(min(0, intercept), 1.1 * max(y)))
            axes.set_title(self.title, loc="left", fontsize=9)
            axes.xaxis.get_major_locator().set_params(integer=True)


def index(paths: Sequence[Path]) -> pd.DataFrame:
    """An index of volumes, each of a subject of its own."""
    empty = dict.fromkeys(shards.INDEX_COLUMNS, "")
    rows = [empty | {"volume": f"v{n}", "subject": f"s{n}", "path": str(path), "channel": ""} for n, path in enumerate(paths)]
    return pd.DataFrame(rows)


def wall(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def preprocessing(work: Path, rows: pd.DataFrame, recipe: Mapping[str, Any], processes: Sequence[int], rounds: int) -> Curve:
    """Seconds of `brainpretrain shard` as the workflow calls it, its start included."""
    write_tsv(work / "index.tsv", rows)
    points: dict[int, list[float]] = {n: [] for n in processes}
    for number in range(rounds):
        for n, found in points.items():
            out = work / f"out{number}_{n}" / "shard000.tsv"
            line = ["--index", work / "index.tsv", "--root", "/", "--recipe", json.dumps(recipe), "--shard", 0, "--n-shards", 1]
            line += ["--workers", n, "--max-rejected", 0, "--out", out]
            command = [sys.executable, "-m", "brainpretrain.cli", "shard", *map(str, line)]
            found.append(wall(lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)))
    return Curve("preprocessing", f"preprocessing, {len(rows)} volumes", "processes", "s", points)


def loading(
    work: Path, rows: pd.DataFrame, recipe: Mapping[str, Any], policy: Any, workers: Sequence[int], rounds: int, samples: int
) -> Curve:
    """Seconds of a number of samples of a pretraining, as a training gets them, from its second batch on."""
    table = shards.build(rows, "/", work / "stored", recipe, 0, 1)
    patches = data.PretrainPatches(table.assign(dataset="bench"), work / "stored", [128] * 3, Policy(policy), seed=0)
    points: dict[int, list[float]] = {n: [] for n in workers}
    for _ in range(rounds):
        for n, found in points.items():
            batches = iter(data.loader(patches, [[k, k + 1] for k in range(0, samples + 2, 2)], n, pin=False))
            next(batches)
            found.append(wall(lambda batches=batches: [next(batches) for _ in range(samples // 2)]))
            del batches
    return Curve("loader", f"loader, {samples} samples of 128^3", "workers", "s", points)


def planning(found: Mapping[str, Any]) -> list[Curve]:
    """Dry runs and runs of empty jobs over volumes, from the JSON of the benchmark of scheduling."""
    titles = {
        "dry": ("dry_run", "dry run, shards"),
        "run": ("empty_run", "run of empty jobs, shards"),
        "per_volume_dry": ("dry_run_per_volume", "dry run, a job per volume"),
    }
    details = found["details"]
    return [
        Curve(name, title, "volumes", "CPU s", {int(n): [used for used, _ in rounds] for n, rounds in details[key].items()})
        for key, (name, title) in titles.items()
        if details[key]
    ]


def report(work: Path, counts: Sequence[int]) -> Curve:
    """Bytes in a report of a table whose cohort has this number of cases: its pages, and the figure of every case."""
    made = plan.make(config.load(ROOT / "config", {"study": "demo"}))
    (name, spec), points = next(iter(made.tables.items())), {}
    for n in counts:
        out = work / f"report{n}"
        out.mkdir()
        found = scores(made, n)
        write.write_table(out, found, spec, {})
        cases.draw(found, spec, out / f"{name}_cases.png")
        kept = [*out.glob("*.html"), *out.glob("*_ranks.svg"), *out.glob("*_cases.png")]
        points[n] = [sum(os.path.getsize(path) for path in kept) / 1e6]
    return Curve("report", "report, pages and figure of a table", "cases", "MB", points)


def scores(made: Plan, cases: int) -> pd.DataFrame:
    """Random scores of every evaluation of a study."""
    rng, rows = np.random.default_rng(0), []
    for evaluation in made.evaluations:
        arm, labels = evaluation.arm, made.config.tasks[evaluation.arm.task].labels
        run = {"study": "demo", "task": arm.task, "cohort": evaluation.cohort, "backbone": arm.backbone, "init": arm.init}
        run |= {"recipe": arm.recipe, "n_train": arm.n_train, "fold": str(evaluation.fold)}
        for case in range(cases):
            who = {"subject": f"s{case}", "session": "", "volume": f"s{case}"}
            for label in labels:
                values = dict.fromkeys(metrics.COLUMNS, "1") | {"label": label, "status": "ok"}
                values |= {key: f"{rng.uniform(0.5, 0.9):.6f}" for key in ("dice", "nsd", "hd95_mm", "volume_error")}
                rows.append(run | who | values)
    return pd.DataFrame(rows)


def table(curves: Sequence[Curve]) -> str:
    """Markdown: every curve at each of its points, and its fit."""
    lines = []
    for curve in curves:
        x, y = curve.medians
        points = ", ".join(f"{value:.3g} at {n:,}" for n, value in zip(x, y, strict=True))
        gain = (
            f"; {y[x.index(1)] / y[x.index(2)]:.2f}x with two"
            if curve.over in ("processes", "workers") and {1, 2} <= set(x)
            else ""
        )
        lines.append([curve.title, f"{curve.unit} over {curve.over}", points, curve.fit + gain])
    return harness.table(["curve", "axes", "medians", "fit"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the curves, draws and prints them."""
    parser = script.parser(__doc__, "scaling", rounds=3, parties=False)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--repeats", type=int, default=32, help="so often each volume is preprocessed in a shard")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 300, 1000], metavar="N")
    parser.add_argument(
        "--scheduling", type=Path, default=ROOT / "results/bench/scheduling.json", help="what bench/scheduling.py wrote"
    )
    parser.add_argument("--pictures", type=Path, default=PICTURES, metavar="DIR")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    recipe = settings.preprocess["amaes"].model_dump(mode="json") | {"allow_negative": True}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        paths, what = volumes(args, work, settings)
        policy = settings.augmentations["amaes"].model_dump(mode="json")
        curves = [
            preprocessing(work, index(paths * args.repeats), recipe, args.processes, args.rounds),
            loading(work, index(paths), recipe, policy, args.workers, args.rounds, args.samples),
            *(planning(read_json(args.scheduling)) if args.scheduling.exists() else []),
            report(work, args.cases),
        ]
    args.pictures.mkdir(parents=True, exist_ok=True)
    for curve in curves:
        curve.draw(args.pictures)
    facts = harness.facts() | {"command": f"python bench/scaling.py --rounds {args.rounds}", "inputs": what}
    facts["machine"] = facts["machine"].replace("one used", "all used")
    figures = [
        harness.figure("scaling", f"{curve.title}, {n} {curve.over}", "brainpretrain", curve.unit, values)
        for curve in curves
        for n, values in curve.points.items()
    ]
    pictures = " ".join(f"![{curve.title}](benchmarks/{curve.name}.svg)" for curve in curves)
    script.finish(args, facts, [table(curves), pictures], figures, [], {curve.name: curve.fit for curve in curves})


def volumes(args: argparse.Namespace, work: Path, settings: config.Config) -> tuple[list[Path], str]:
    """Real volumes if they are available, else phantoms, and a line that says which."""
    real = [args.data / name for name in REAL if (args.data / name).exists()]
    if real:
        return real, f"{len(real)} real volumes"
    from brainpretrain.datasets import phantom

    options = settings.datasets["phantom"].options | {"subjects": 0, "unlabelled_subjects": 2}
    phantom.generate(work / "phantom", **options)
    made = sorted((work / "phantom").rglob("*.nii.gz"))
    return made, f"{len(made)} synthetic volumes"


if __name__ == "__main__":
    main()
