"""The state of every training of a study, read from files alone: Slurm and Snakemake are not asked, torch is not imported.

A training is found by its `run.json` (finished), its work folder (see `training/history.py`), its log (it ended before it had a
work folder), or, in the root of the repository, by the plan (not begun).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from brainpretrain import config
from brainpretrain.config.reading import read_yaml
from brainpretrain.errors import UserError, nearest
from brainpretrain.files import read_mapping
from brainpretrain.plan import tables as plan
from brainpretrain.training import history
from brainpretrain.words import rough_duration

STATES = {  # in the order they are counted, with their colours
    "running": "cyan",
    "failed": "red",  # ended by an error
    "silent": "red",  # ended without a message: killed, or the node was lost
    "interrupted": "yellow",  # stopped by a signal, saved
    "finished": "green",
    "not begun": "dim",
}
RUNS = ("pretrain/*/*/*", "finetune/*/*/*/*/n*/fold*")  # below a study
TAIL = 8192  # bytes read from the end of a log
TROUBLE = re.compile(r"^error: |^[\w.]*(Error|Exception)\b|\bkilled\b|out of memory|oom.kill|not found$", re.IGNORECASE)


@dataclass(frozen=True)
class Training:
    """One pretraining or fine-tuning. Times are in seconds, None where unknown.

    Attributes:
        study: '' for a training that was started by hand and writes outside the results folder.
        run: path below the study.
        state: a key of STATES.
        patches_per_s: current speed of a running training, mean speed of a finished one.
        left_s: time to the end at the current speed.
        seen_s: time since the last sign of life.
        lost_steps: steps that were repeated, or will be, after interruptions.
        trouble: why it stopped, in one line; '' if there is no trouble.
        log: path of the job's log, '' if there is none.
        work: its work folder, '' if there is none.
        validated: the last validation of a fine-tuning that is running, or that of the weights of its model; '' without one.
    """

    study: str
    run: str
    state: str
    step: int = 0
    total_steps: int = 0
    patches_per_s: float = 0.0
    left_s: float | None = None
    seen_s: float | None = None
    attempts: int = 0
    lost_steps: int = 0
    trouble: str = ""
    log: str = ""
    work: str = ""
    validated: str = ""


def collect(results: Path, study: str | None = None, planned: Iterable[tuple[str, str]] | None = None) -> list[Training]:
    """All trainings below a results folder, or those of one study, in the order of their paths.

    Args:
        results: folder of the results.
        study: its name.
        planned: (study, run) of the trainings that are planned; None to ask the config in the current folder.

    Raises:
        UserError: there is no training.
    """
    by_run: dict[tuple[str, str], Training] = {}
    for training in (*_finished(results), *_at_work(results)):
        other = by_run.get((training.study, training.run))
        if other is None or _age(training) < _age(other):
            by_run[training.study, training.run] = training
    for training in _only_logged(results):
        by_run.setdefault((training.study, training.run), training)
    if planned is None:
        planned = _planned(results, {study} if study else {training.study for training in by_run.values()})
    for name, run in planned:
        by_run.setdefault((name, run), Training(name, run, "not begun"))
    trainings = [training for training in by_run.values() if study is None or training.study == study]
    if not trainings:
        names = sorted({training.study for training in by_run.values() if training.study})
        fix = nearest(study, names) if study else "give --results, or start a study"
        raise UserError(f"no trace of a study '{study}'" if study else "no trace of a training", where=results, fix=fix)
    return sorted(trainings, key=lambda training: (training.study, _order(training.run)))


def _age(training: Training) -> float:
    return float("inf") if training.seen_s is None else training.seen_s


def _order(run: str) -> tuple:
    """Sort key: pretrainings first, numbers by value (n5 before n10)."""
    parts = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", run)]
    return (not run.startswith("pretrain"), parts)


def _finished(results: Path) -> Iterator[Training]:
    for pattern in RUNS:
        for path in results.glob(f"*/{pattern}/run.json"):
            run, study = read_mapping(path), path.relative_to(results).parts[0]
            yield Training(
                study,
                path.parent.relative_to(results / study).as_posix(),
                "finished",
                step=run.get("steps", 0),
                total_steps=run.get("planned_steps", run.get("steps", 0)),
                patches_per_s=run.get("patches_per_s", 0.0),
                seen_s=history.age_s(run["finished"]) if "finished" in run else None,
                attempts=run.get("attempts", 0),
                lost_steps=run.get("redone_steps", 0),
                log=_log(results, path.parent.relative_to(results)),
                validated=_chosen(run.get("validation") or {}),
            )


def _chosen(validation: dict[str, Any]) -> str:
    """Pseudo-Dice x 100 of the weights of a model and their step, from its run.json."""
    dice, early = validation.get("pseudo_dice"), ", ended early" if validation.get("stopped_early") else ""
    return f"{100 * dice:.1f} at {validation['selected_step']}{early}" if dice is not None else ""


def _last_validation(attempts: list[list[history.Event]]) -> str:
    """Pseudo-Dice x 100 of the last validation, and the step of the best, from the history."""
    found = [event for events in attempts for event in events if event["event"] == "validation"]
    if not found:
        return ""
    last = found[-1]
    dice = "not a number" if last["dice"] is None else f"{100 * last['dice']:.1f}"
    return f"{dice} at {last['step']}, best at {last['best_step']}"


def _at_work(results: Path) -> Iterator[Training]:
    for path in results.glob("work/*/about.json"):
        about, attempts = read_mapping(path), history.attempts(history.read(path.parent))
        if about and attempts:
            yield _training_at_work(results, path.parent, about, attempts)


def _training_at_work(results: Path, work: Path, about: dict[str, Any], attempts: list[list[history.Event]]) -> Training:
    """A training with a work folder, so without results yet: it is running, or it stopped."""
    sign, last, end = history.alive(work), attempts[-1][-1], history.ending(attempts[-1], work)
    out = Path(about["out"])
    elsewhere = out.parts[0] == ".."  # started by hand
    log = _log(results, out)
    saved = max((int(folder.name.removeprefix("step-")) for folder in work.glob("step-*")), default=0)
    state, trouble = _outcome(sign, last, end["text"], log)
    running = state == "running"
    speed = sign.get("patches_per_s", 0.0) if running else 0.0
    left = (about["total_steps"] - end["step"]) * about["patches_per_step"]
    return Training(
        "" if elsewhere else out.parts[0],
        str(out) if elsewhere else Path(*out.parts[1:]).as_posix(),
        state,
        step=end["step"],
        total_steps=about["total_steps"],
        patches_per_s=speed,
        left_s=left / speed if speed else None,
        seen_s=min(history.age_s(moment["time"]) for moment in (sign, last) if moment),
        attempts=len(attempts),
        lost_steps=sum(events[0]["redone"] for events in attempts) + (0 if running else max(0, end["step"] - saved)),
        trouble=trouble if running else f"{trouble}; continues from step {saved}",
        log=log,
        work=str(work),
        validated=_last_validation(attempts),
    )


def _outcome(sign: dict[str, Any], last: history.Event, ending: str, log: str) -> tuple[str, str]:
    """State and trouble of a training with a work folder.

    Args:
        sign: its last sign of life.
        last: the last event of its history.
        ending: how its last attempt ended, in one line.
        log: path of the job's log, or ''.
    """
    state = {"stop": "interrupted", "end": "interrupted", "error": "failed", "refused": "failed"}.get(last["event"], "silent")
    if state == "silent" and history.is_alive(sign):
        still = sign.get("still_s", 0)
        return "running", f"no step for {rough_duration(still)}" if still > history.SILENT_S else ""
    if log and Path(log).stat().st_mtime >= datetime.fromisoformat(last["time"]).timestamp() and (line := _trouble(log)):
        return "failed", line  # the error of another process, or of an attempt that failed before it wrote to the history
    return state, last["line"] if state == "failed" else ending


def _only_logged(results: Path) -> Iterator[Training]:
    """Trainings with a log and without a work folder: they failed before they had one, or are about to begin."""
    for pattern in RUNS:
        for path in results.glob(f"*/logs/{pattern}.log"):
            study = path.relative_to(results).parts[0]
            run = path.relative_to(results / study / "logs").with_suffix("").as_posix()
            seen, trouble = datetime.now(UTC).timestamp() - path.stat().st_mtime, _trouble(str(path))
            state = "failed" if trouble else "running" if seen < history.SILENT_S else "silent"
            trouble = trouble or (
                "ended without a message, and has neither results nor a work folder" if state == "silent" else ""
            )
            yield Training(study, run, state, seen_s=seen, attempts=1, trouble=trouble, log=str(path))


def _planned(results: Path, studies: set[str]) -> Iterator[tuple[str, str]]:
    """(study, run) of each training that the studies plan, if the config in the current folder writes to these results."""
    folder = Path("config")
    if not (folder / "config.yaml").exists():
        return
    settings = read_yaml(folder / "config.yaml")
    if Path(str(settings.get("results"))).resolve() != results.resolve():
        return
    for study in sorted(studies or {str(settings.get("study"))}):
        if (folder / "studies" / f"{study}.yaml").exists():
            try:
                planned = plan.make(config.load(folder, {"study": study}))
            except UserError as error:  # the config may be being edited, and the other trainings can still be shown
                print(f"{study}: trainings not begun are left out, since the config has an error: {error}", file=sys.stderr)
                continue
            yield from ((study, pretraining.path) for pretraining in planned.pretrainings)
            yield from ((study, training) for training in planned.trainings)


def _log(results: Path, out: Path) -> str:
    """The log of the job that writes to `out`, which is relative to the results; '' if there is none."""
    path = results / out.parts[0] / "logs" / Path(*out.parts[1:]).with_name(f"{out.name}.log")
    return str(path) if path.exists() else ""


def _trouble(log: str) -> str:
    """The last line of a log that reports an error; '' if there is none. Snakemake empties a log at every attempt.

    The line with the command ('$ ...') is passed over, since its paths may contain any word.
    """
    with open(log, "rb") as stream:
        start = stream.seek(max(0, stream.seek(0, 2) - TAIL))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    whole = lines[1:] if start else lines
    line = next((line for line in reversed(whole) if TROUBLE.search(line) and not line.startswith("$ ")), "")
    return line.removeprefix("error: ")[: history.LINE]


def reason(log: Path) -> str:
    """The error that ended a job, from the end of its log; '' if there is none."""
    return _trouble(str(log))


def rendered(trainings: list[Training]) -> Group:
    """A table per study, and below it the trouble, log and work folder of each training that stopped."""
    parts: list[Any] = []
    for study in sorted({training.study for training in trainings}):
        of_study = [training for training in trainings if training.study == study]
        counts = Counter(training.state for training in of_study)
        title = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        parts.append(Text(f"{study or 'by hand'}: {title}", style="bold"))
        begun = [training for training in of_study if training.state != "not begun"]
        parts += [_table(begun), *_troubles(begun)] if begun else []
        parts.append(Text())
    return Group(*parts[:-1])


def _table(trainings: list[Training]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    for name in ("state", "step", "patches/s", "left", "seen", "attempts", "lost"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    is_validated = any(t.validated for t in trainings)
    if is_validated:
        table.add_column("pseudo-Dice", no_wrap=True)
    for t in trainings:
        table.add_row(
            t.run,
            Text(t.state, style=STATES[t.state]),
            f"{t.step}/{t.total_steps}" if t.total_steps else "",
            f"{t.patches_per_s:.1f}" if t.patches_per_s else "",
            rough_duration(t.left_s),
            rough_duration(t.seen_s) + (" ago" if t.seen_s is not None else ""),
            str(t.attempts or ""),
            f"{t.lost_steps} steps" if t.lost_steps else "",
            *([t.validated] if is_validated else []),
        )
    return table


def _troubles(trainings: list[Training]) -> Iterator[Text]:
    for t in trainings:
        if t.trouble:
            yield Text(f"\n{t.run}: {t.state}", style=STATES[t.state])
            yield Text(f"  {t.trouble}")
            yield from (Text(f"  {name}: {path}") for name, path in (("log", t.log), ("work folder", t.work)) if path)
