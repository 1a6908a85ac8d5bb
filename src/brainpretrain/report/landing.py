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
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan.runs import Evaluation, Plan
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.verdicts import MISSING
from brainpretrain.words import count, duration

MOST_SENTENCES = 8  # of a table on the first page; the table of verdicts has all
LONGEST_TABLE = 40  # lines
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
    head = ["", title, "=" * max(4, len(title))]
    found = list(_results(plan, study))
    result = ["", "**Result**", "", *found] if found else []
    ran = ["", "**What ran**", "", *_summary(plan), "", *_tables(plan, study), "", *_runs(plan, study)]
    return "\n".join([*head, *result, *_warnings(plan, study), *ran]) + "\n"


def _results(plan: Plan, study: Path) -> Iterator[str]:
    """The first table as it is, and a sentence for each comparison of each table that was made."""
    made = [name for name in plan.tables if (study / "tables" / f"{name}_verdicts.tsv").exists()]
    page = study / "tables" / f"{made[0] if made else None}.txt"
    if page.exists():
        lines = _without_notes(page.read_text(encoding="utf-8").splitlines())[:LONGEST_TABLE]
        yield from [".. raw:: html", "", '   <pre style="overflow-x: auto; font-size: 0.8rem; line-height: 1.3">']
        yield from [f"   {escape(line)}".rstrip() for line in lines]
        yield from ["   </pre>", ""]
    for name in made:
        table = read_tsv(study / "tables" / f"{name}_verdicts.tsv")
        sentences = [_sentence(line, plan.tables[name]) for line in table.to_dict("records") if line["verdict"] != MISSING]
        yield from (f"- {escaped(words)}" for words in sentences[:MOST_SENTENCES])
        if len(sentences) > MOST_SENTENCES:
            link = f"javascript:app.showResultInfo('{quote(f'{study}/tables/{name}_verdicts.html')}')"
            yield f"- `{len(sentences) - MOST_SENTENCES} further comparisons of {escaped(name)} <{link}>`__"


def _without_notes(lines: list[str]) -> list[str]:
    """The lines of a printed table up to its notes, the first text without columns below the rule."""
    rule = next((number for number, line in enumerate(lines) if line.startswith("──")), 0)
    notes = (number for number, line in enumerate(lines) if number > rule and line.strip() and "   " not in line)
    return "\n".join(lines[: next(notes, len(lines))]).rstrip().splitlines()


def _sentence(line: Mapping[str, Any], spec: TableSpec) -> str:
    """One comparison in words, with its interval if there is one."""
    metric = metric_of(spec)
    size = numbers.signed(float(line["delta"]), metric)
    if line["delta_low"]:
        size += f" {numbers.interval(*(numbers.signed(float(line[key]), metric) for key in ('delta_low', 'delta_high')))}"
    pair = f"{line['row']}, against {line['baseline']}, on {line['column']}"
    words = f"{pair}: {size} ({metric.title}); {line['verdict']}"
    return words + (f". {line['to_decide']}." if line["to_decide"] else ".")


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
