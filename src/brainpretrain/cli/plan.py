"""The commands `plan` and `run`: a whole study, seen beforehand and started. They start Snakemake, and do not import it."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from brainpretrain import config
from brainpretrain.cli import plan_show
from brainpretrain.cli.arguments import arg, command
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan import tables
from brainpretrain.plan.runs import Plan
from brainpretrain.report import forecast, jobs
from brainpretrain.report.watch import Watcher
from brainpretrain.training import gpus
from brainpretrain.words import count, duration

STUDY = arg("study", nargs="?", default=None, metavar="STUDY", help="name in config/studies/, or path (default: of the settings)")
ASKS = {  # options of Snakemake that run nothing and print what was asked for
    "--unlock", "--summary", "--detailed-summary", "-S", "-D", "--list-rules", "--list", "-l", "--list-changes",
    "--lint", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--report", "--cleanup-metadata", "--help",
    "-h", "--version", "--touch", "-t",
}  # fmt: skip
PROFILES = ("local", "workstation", "slurm")


@command(
    "config",
    arg("action", choices=["check"], help="check: read and plan studies, and run nothing"),
    arg("study", nargs="*", metavar="STUDY", help="names in config/studies/, or paths (default: all of config/studies/)"),
)
def config_check(args: argparse.Namespace) -> None:
    """Reads the files of config/ and plans each study, as the workflow does. Errors are printed with file, line, key and fix; all
    studies are read, and the exit code is 2 if one has an error. No data are looked at.
    """
    folder = Path("config")
    if not folder.is_dir():
        raise UserError("there is no folder config here", where=Path.cwd(), fix="change to the root of the repository")
    wrong = 0
    for study in args.study or sorted(path.stem for path in (folder / "studies").glob("*.yaml")):
        try:
            planned = tables.make(config.load(folder, {"study": study}))
        except UserError as error:
            wrong += 1
            print(f"{study}: error: {error}")
            continue
        trainings = f"{len(planned.pretrainings)} pretrainings, {len(planned.trainings)} fine-tunings"
        print(f"{study}: {count(len(planned.tables), 'table')}, {trainings}")
    if wrong:
        raise UserError(f"{wrong} of the studies cannot be planned", fix="correct them as shown above")


@command(
    "plan",
    STUDY,
    arg("--measure", action="store_true", help="time a training step of every network without a rate on record, on this machine"),
)  # fmt: skip
def plan(args: argparse.Namespace) -> None:
    """Shows on one screen what a study still has to do: jobs by stage, hours of its trainings, disk, and missing data.

    Hours come from trainings that have finished, in any study below the results folder, or with --measure from a step that is
    timed now; without either they are not estimated. Nothing is run. It is given in the root of the repository.
    """
    _require_root()
    loaded = config.load(overrides={"study": args.study} if args.study else None)
    planned = tables.make(loaded)
    results = Path(planned.config.settings.results)
    print(f"{planned.config.study_name}: {planned.config.study.title}")
    print("\n".join(_data(planned)))
    print("\n".join(_jobs(planned.config.study_name if not args.study else args.study)))
    timed: dict[forecast.Kind, float] = {}
    if args.measure:
        missing = [line.kind for line in forecast.lines(planned, results) if line.seconds_per_patch is None]
        timed = {kind: forecast.time_step(planned.config, kind) for kind in missing}
    print("\n".join(_hours(forecast.lines(planned, results, timed))))
    stored, unknown = forecast.disk(planned, results)
    later = f"; not stored yet, so not known: {', '.join(unknown)}" if unknown else ""
    free = shutil.disk_usage(_existing(results)).free / 2**30
    print(f"disk: {stored / 2**30:.2f} GiB of stored volumes{later}; {free:.0f} GiB are free")
    print(f"To run it: brainpretrain run{' ' + args.study if args.study else ''}")


def _data(planned: Plan) -> list[str]:
    """A line for each data set: in place, made by the workflow, or missing with the way to get it."""
    lines = []
    for name in planned.datasets:
        access, root = planned.config.described(name).access, Path(planned.config.data_root(name))
        state = (
            "made by the workflow"
            if access == "embedded"
            else f"in {root}"
            if root.exists()
            else f"MISSING: {root} does not exist"
        )
        lines.append(f"  data  {name:22}{state}")
    if any("MISSING" in line for line in lines):
        lines.append("        `brainpretrain datasets` says how to get them; folders elsewhere: data_roots in config/local.yaml")
    return lines


def _jobs(study: str) -> list[str]:
    """Jobs that a dry run shows, by stage.

    Raises:
        UserError: the dry run refuses the study; the message is that of the workflow.
    """
    line = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--profile", "local", "--config", f"study={study}"]
    ran = subprocess.run(line, capture_output=True, text=True)
    if ran.returncode:
        said = (ran.stderr + ran.stdout).partition("Error: ")[2] or ran.stderr[-2000:]
        raise UserError(f"the study cannot be run\n{said.strip()}")
    rules = jobs.by_rule(Path())
    table = (ran.stdout + ran.stderr).rpartition("Job stats:")[2]
    counts: dict[str, int] = {}
    for name, number in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE):
        if name not in ("total", "all"):
            counts[rules.get(name, "report")] = counts.get(rules.get(name, "report"), 0) + int(number)
    if not counts:
        return ["  jobs  none: everything is up to date"]
    stages = ", ".join(f"{stage} {counts[stage]:,}" for stage in jobs.STAGES if stage in counts)
    return [f"  jobs  {stages}: {sum(counts.values()):,} in all"]


def _hours(lines: list[forecast.Line]) -> list[str]:
    made = []
    for line in lines:
        what = f"pretraining {line.kind.method}" if line.kind.method else "fine-tuning"
        patches = "number of patches not known before the corpus is made" if line.patches is None else f"{line.patches:,} patches"
        cost = f"{duration(line.hours * 3600)}: {line.source}" if line.hours is not None else line.source
        made.append(f"  {count(line.trainings, what)} of {line.kind.backbone}, {patches}; {cost}")
    if not lines:
        return ["trainings: none is left"]
    known = sum(line.hours or 0 for line in lines)
    open_ = sum(line.trainings for line in lines if line.hours is None)
    rest = (
        f"; not counted: {count(open_, 'training')} without a known rate or number of patches (--measure times a step)"
        if open_
        else ""
    )
    return [f"trainings, one after another: {duration(known * 3600)}{rest}", *made]


def _existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    return path if path.exists() else _existing(path.absolute().parent)


# ------------------------------------------------------------------------------------------------ run


@command(
    "run",
    STUDY,
    arg("target", nargs="?", default=None, metavar="TARGET",
        help="a table, or a path below the results of the study (default: all, and the report)"),
    arg("--profile", metavar="NAME",
        help="local, workstation, slurm, or a folder (default: of the settings, else by what the machine has)"),
    arg("--cores", default=None, metavar="N", help="cores of this machine (default: of the profile)"),
    arg("-n", "--dry-run", action="store_true", help="count the jobs and run none (with --plain: list them)"),
    arg("--plain", action="store_true", help="show Snakemake's own output"),
)  # fmt: skip
def run(args: argparse.Namespace) -> None:
    """Runs a study, or one target of it, with the right profile; then makes its report. Given again, it continues.

    A terminal shows the screen of `watch`; elsewhere there is a line for each finished job. Snakemake's own output is in a file.
    What follows `--` goes to Snakemake: `brainpretrain run demo -- --forcerun table`. It is given in the root of the repository.
    """
    _require_root()
    study, target = _study_and_target(args.study, args.target)
    loaded = config.load(overrides={"study": study} if study else None)
    planned = tables.make(loaded)
    profile = args.profile or loaded.settings.profile or _profile(loaded)
    line = [sys.executable, "-m", "snakemake", "--profile", profile, "--config", f"study={study or loaded.settings.study}"]
    line += ["--cores", args.cores] if args.cores else []
    line += ["-n"] if args.dry_run else []
    passed = getattr(args, "after", [])
    whole = [*line, *passed, "--", *([_target(planned, target)] if target else [])]
    is_dry = args.dry_run or bool({"-n", "--dry-run", "--dryrun"} & set(passed))
    if args.plain or ASKS & {word.partition("=")[0] for word in passed}:
        _snakemake(whole)
    elif is_dry:
        _snakemake([*whole[:3], "--quiet", "rules", *whole[3:]])
    else:
        name, root = planned.config.study_name, Path.cwd()
        _snakemake(whole, Watcher(Path(planned.config.settings.results), study or loaded.settings.study, root), name)
    folder = Path(planned.config.settings.results) / planned.config.study_name
    if not (is_dry or target or ASKS & set(passed)):
        report = folder / "report.html"
        _snakemake([*line, "--report", str(report)], quiet=True)
        for name in planned.tables:
            print((folder / "tables" / f"{name}.txt").read_text(encoding="utf-8"))
        print(f"Report: {report.absolute()}")


def _study_and_target(first: str | None, second: str | None) -> tuple[str | None, str | None]:
    """`run table4` names a target of the chosen study; `run amaes table4` names both."""
    if first is None or second is not None:
        return first, second
    try:
        config.study_path(Path("config"), first)
    except UserError:
        chosen = tables.make(config.load())
        if first in chosen.tables or "/" in first:
            return None, first
        raise
    return first, None


def _target(planned: Plan, target: str) -> str:
    """What Snakemake calls a target: the name of a table, or a path from the root of the repository.

    Raises:
        UserError: neither a table of the study nor a path.
    """
    if target in planned.tables:
        return target
    if "/" not in target:
        raise UserError(
            f"no table '{target}' in the study '{planned.config.study_name}'",
            where="brainpretrain run",
            fix=f"{nearest(target, list(planned.tables))}; or give the path of a file below the results of the study",
        )
    folder = f"{planned.config.settings.results}/{planned.config.study_name}"
    return target if target.startswith(f"{planned.config.settings.results}/") else f"{folder}/{target}"


def _profile(loaded: config.Config) -> str:
    """slurm if the settings name a Slurm site and this machine can submit; workstation with a GPU; else local."""
    if shutil.which("sbatch") and (loaded.settings.slurm.account or loaded.settings.slurm.partition):
        return "slurm"
    return "workstation" if gpus.visible(os.environ) else "local"


def _require_root() -> None:
    if not Path("Snakefile").exists():
        raise UserError("there is no Snakefile here", where=Path.cwd(), fix="change to the root of the repository")


def _snakemake(line: list[str], watcher: Watcher | None = None, study: str = "", quiet: bool = False) -> None:
    """Runs Snakemake. A signal from the terminal reaches it as it reaches this process, which waits for its end.

    Args:
        line: the command line.
        watcher: shows the progress of the study in place of what Snakemake prints.
        study: name of the study of the watcher.
        quiet: whether nothing is shown.
    """
    heard = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]  # not under nohup
    before = {number: signal.signal(number, lambda *_: None) for number in heard}
    output: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    try:
        if watcher is not None:
            begun = datetime.now().strftime("%Y-%m-%dT%H%M%S")
            code = plan_show.run(line, watcher, watcher.results / study / "logs" / "run" / f"{begun}.log")
        else:
            code = subprocess.run(line, **output).returncode
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        sys.exit(code)
