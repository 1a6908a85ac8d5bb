"""The first page of a report, as reStructuredText: what the study compares, which runs are finished and which are missing.

This module reads the files of a study and writes none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from brainpretrain import local_mean
from brainpretrain.files import read_json
from brainpretrain.plan.runs import Evaluation, Plan
from brainpretrain.words import count, duration

PROTOCOLS = {
    "fair": "Arms that are compared differ in their encoder alone, or name their baseline (protocol: fair).",
    "paper": "Arms differ as in the paper that the study repeats (protocol: paper); notes under the tables say in what.",
    "free": "No protocol made the arms alike (protocol: free); notes under the tables say in what they differ.",
}


def text(plan: Plan, study: Path | str) -> str:
    """What the study compares; a line per table with its missing runs; number, hours, machines and dates of the trainings.

    Args:
        plan: of the study.
        study: its folder of results; files that do not exist yet are counted as missing.
    """
    study = Path(study)
    title = escaped(plan.config.study.title)
    head = ["", title, "=" * max(4, len(title)), "", *_summary(plan)]
    ran = ["", "**What ran**", "", *_tables(plan, study), "", *_runs(plan, study)]
    return "\n".join([*head, *_warnings(plan, study), *ran]) + "\n"


def _warnings(plan: Plan, study: Path) -> Iterator[str]:
    """A red paragraph for each pretraining that ends no better than the local mean."""
    for pretraining in plan.pretrainings:
        if words := local_mean.warning(study / pretraining.path / "log.csv", f"{pretraining.init}, {pretraining.backbone},"):
            yield from ["", ".. raw:: html", "", f'   <p style="color: #b3261e"><strong>{escape(words)}</strong></p>']


def escaped(words: str) -> str:
    """Text in which no character has a special meaning in reStructuredText."""
    return "".join(f"\\{c}" if c in "\\*`_|:<>[]" else c for c in words)


def _summary(plan: Plan) -> Iterator[str]:
    """One paragraph: the study with its encoders, arms, tasks and folds."""
    arms = {evaluation.arm for evaluation in plan.evaluations}
    encoders = [f"{p.pretext} on {p.corpus} ({p.backbone})" for p in plan.pretrainings]
    tasks = {column.title for spec in plan.tables.values() for column in spec.columns}
    pretrained = f"pretrains {count(len(encoders), 'encoder')}: {_listed(encoders)}; it " if encoders else ""
    seeds = f", each with {count(len(plan.config.study.seeds), 'seed')}," if plan.config.study.seeds else ""
    words = (
        f"The study {plan.config.study_name} {pretrained}fine-tunes {count(len(arms), 'arm')} in"
        f" {count(plan.config.study.folds, 'fold')}{seeds} for {_listed(sorted(tasks))}, and scores them on subjects that a fold"
        " did not train on. An arm is a network, what it starts from, a recipe and a number of labelled subjects."
        f" {PROTOCOLS[plan.config.study.protocol]}"
    )
    yield escaped(words)


def _listed(names: list[str], most: int = 6) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _tables(plan: Plan, study: Path) -> Iterator[str]:
    for name, spec in plan.tables.items():
        evaluations = list(dict.fromkeys(plan.table_scored(spec)))
        missing = [evaluation for evaluation in evaluations if not (study / evaluation.path / "scores.tsv").exists()]
        page = quote(f"{study}/tables/{name}.html")
        size = f"{count(len(spec.rows), 'row')}, {count(len(spec.columns), 'column')}"
        folds = count(len(spec.folds), "fold")
        link = f"`{escaped(spec.title)} <javascript:app.showResultInfo('{page}')>`__"
        yield f"- {link}: {size}, {folds}; {_missing(evaluations, missing)}"


def _missing(evaluations: list[Evaluation], missing: list[Evaluation]) -> str:
    if not missing:
        return f"all {len(evaluations)} runs are scored."
    arms = Counter(f"{e.arm.backbone}, {e.arm.init}, n={e.arm.n_train}, {e.arm.task} ({e.cohort})" for e in missing)
    named = [f"{arm}: {count(folds, 'fold')}" for arm, folds in arms.items()]
    return f"**{len(missing)} of {len(evaluations)} runs are missing**: {escaped(_listed(named))}."


def _runs(plan: Plan, study: Path) -> Iterator[str]:
    """Number and hours of the trainings of each kind, then their machines, commits and dates."""
    places = {
        "pretraining": [p.path for p in plan.pretrainings],
        "fine-tuning": plan.trainings,
    }
    finished: list[Mapping[str, Any]] = []
    for kind, paths in places.items():
        runs = [read_json(study / path / "run.json") for path in paths if (study / path / "run.json").exists()]
        finished += runs
        if paths:
            took = f", {duration(sum(run['seconds'] for run in runs))} in all" if runs else ""
            yield f"- {kind.capitalize()}s: {len(runs)} of {len(paths)} finished{took}."
    if finished:
        yield f"- Hardware: {escaped(_named(run.get('hardware') for run in finished))}. Commit: {escaped(_commits(finished))}."
        days = sorted(datetime.fromisoformat(run["finished"]).date().isoformat() for run in finished)
        yield f"- Finished: {days[0]}" + (f" to {days[-1]}." if days[0] != days[-1] else ".")


def _commits(runs: list[Mapping[str, Any]]) -> str:
    return _named(run["commit"][:12] if run.get("commit") else None for run in runs)


def _named(values: Iterable[Any]) -> str:
    """Each value once, the most frequent first; 'not known' for a missing one."""
    return ", ".join(value for value, _ in Counter(str(value or "not known") for value in values).most_common())
