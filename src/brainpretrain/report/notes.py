"""The notes below a table about its intervals, tests and power, for `layouts`."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.crossed import FEWEST_DRAWS
from brainpretrain.report.metrics import metric_of
from brainpretrain.words import count


def interval_notes(cells: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    """What the brackets of a table hold, and what they leave out."""
    confidence, draws = numbers.share(spec.bootstrap.confidence), len(spec.folds)
    yield from _cross_validation_notes(spec)
    if all(row.external for row in spec.rows):
        yield f"In brackets: {confidence} interval for other subjects, t quantiles."
    elif all(column.kfold for column in spec.columns):
        draws = 0
    elif draws < FEWEST_DRAWS:
        number = "One draw" if draws == 1 else f"{draws} draws"
        yield f"{number} of training cases: no statement about another training, so no interval and no test between arms."
    elif cells["low"].notna().any():
        seeds = f" and {count(len(spec.seeds), 'seed')}" if spec.seeds else ""
        yield (
            f"In brackets: {confidence} interval for another training and other subjects: {draws} draws{seeds} crossed with"
            " subjects, t quantiles."
        )
    if cells["models_low"].notna().any():
        yield (
            f"These models: {confidence} interval, bootstrap over subjects ({spec.bootstrap.resamples:,} samples, percentiles)."
            " The trained models are taken as given; it says nothing about another training."
        )
    if draws >= FEWEST_DRAWS:
        yield from _draw_notes(spec)
    yield from _external_notes(spec)


def _external_notes(spec: TableSpec) -> Iterator[str]:
    """What differs where another program made the segmentations."""
    titles = [row.title for row in spec.rows if row.external]
    if titles:
        yield (
            f"Another program: {_listed(titles)}. Nothing of it was trained here, so it has no draws, seeds and hours; its"
            " interval is about other subjects alone, and in a difference to it only the other arm varies with the training."
        )


def _cross_validation_notes(spec: TableSpec) -> Iterator[str]:
    """Which columns are cross-validations, and what follows from it."""
    for task, k in {column.task: column.kfold for column in spec.columns if column.kfold}.items():
        titles = " and ".join(column.title for column in spec.columns if column.task == task)
        parts = f"{k} parts" if len(spec.folds) == k else f"{len(spec.folds)} of {k} parts"
        yield (
            f"{titles}: cross-validation, {parts}; each fold trains on the other parts, and in the cohort 'test' each subject is"
            " scored once. Its folds are no draws: they share training cases, so there is no interval and no test about another"
            " training. Where they score different subjects, the ± holds the differences of these, too."
        )


def _draw_notes(spec: TableSpec) -> Iterator[str]:
    """Where the draws of a table are not independent, or not draws of everything."""
    trained = [row for row in spec.rows if not row.external]
    n_train = {row.n_train for row in trained}
    if n_train - {"all"} and not spec.disjoint:
        yield "Draws may share training cases; as far as they do, the intervals are too short."
    if "all" in n_train:
        yield "With n_train 'all' every draw has the same training cases: its intervals are about other trainings on these cases."
    if any(row.init != spec.baseline for row in trained):
        yield "Each pretrained encoder is one pretraining, taken as given: no interval includes another pretraining."


def _listed(titles: list[str], most: int = 4) -> str:
    more = len(titles) - most
    return ", ".join(f"'{title}'" for title in titles[:most]) + (f" and {count(more, 'more row')}" if more > 0 else "")


def delta_note(spec: TableSpec) -> Iterator[str]:
    """What signed numbers are differences to."""
    if any(spec.baseline_of(row) and not row.against for row in spec.rows):
        yield f"Signed: the difference to '{spec.baseline}' with the same backbone and n_train."
    if spec.probe:
        yield (
            "Linear probe: each encoder stays as it starts, and a linear readout of all its feature maps is trained. From scratch"
            " it is a random encoder, so the difference is what pretraining put into the features."
        )
    if spec.free and len(spec.rows) > 1:
        yield (
            "Not by the fair protocol (the study says 'protocol: free'): nothing made sure that the arms are alike, have several"
            " seeds, and a learning rate chosen for each."
        )
    different: dict[str, list[str]] = {}
    for row in spec.rows:
        if row.besides:
            different.setdefault("; ".join(row.besides), []).append(row.title)
    for words, titles in different.items():
        verb = "differs" if len(titles) == 1 else "differ"
        yield f"Not the encoder alone: {_listed(titles)} also {verb} from the baseline in {words}."
    for row in spec.rows:
        if row.against:
            yield f"Signed in '{row.title}': the difference to '{spec.baseline_of(row).title}'."


def test_notes(cells: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    """The test, its correction, what it can see, and the comparison of these trained models."""
    tested = cells[cells["p"].notna()]
    if len(tested):
        tests = sorted(set(tested["tests"]))
        number = count(tests[0], "test") if len(tests) == 1 else f"{tests[0]} to {tests[-1]} tests"
        yield f"p: two-sided t test that follows the interval; Holm's correction for {number} in its column."
        yield from power_notes(cells, spec)
    paired = cells[cells["pairs"] > 0]
    if len(paired):
        yield "r: rank-biserial correlation of these models over n subjects (n = cases, if not given), −1 to 1."
    unpaired = paired[paired["unpaired"] > 0]
    if len(unpaired):
        most, where = count(int(unpaired["unpaired"].max()), "score"), count(len(unpaired), "cell")
        yield f"Defined in one of the two arms alone, so in its value but in no pair: up to {most} in {where}."


def validation_notes(spec: TableSpec) -> Iterator[str]:
    """On which subjects the trainings were watched, and what followed from it."""
    watched: dict[str, list[str]] = {}
    for row in spec.rows:
        if row.watched:
            watched.setdefault(row.watched, []).append(row.title)
    for words, titles in watched.items():
        whose = "All rows" if len(titles) == len(spec.rows) else _listed(titles)
        yield f"{whose}: trainings {words}. No subject of a validation is scored here."


test_notes.__test__ = False  # type: ignore[attr-defined] - no test of pytest, although its name begins like one


def power_notes(cells: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    """The difference that the study could see, for each column."""
    metric, level = metric_of(spec), numbers.share(round(1 - spec.bootstrap.confidence, 9))
    for title, column in cells[cells["visible"].notna()].groupby("column", sort=False):
        ends = sorted({numbers.shown(value, metric) for value in column["visible"]}, key=float)
        cases = sorted(set(column["subjects"]))
        subjects = count(cases[0], "subject") if len(cases) == 1 else f"{cases[0]} to {cases[-1]} subjects"
        size = ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
        yield (
            f"Power, {title}: with {len(spec.folds)} draws and {subjects} a difference of {size} can be seen (in 80 % of such"
            f" studies, at {level} before Holm's correction, by the variances measured here)."
        )


def verdict_notes(judged: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    """How the verdicts were reached."""
    metric, level = metric_of(spec), numbers.share(round(1 - spec.bootstrap.confidence, 9))
    yield (
        f"helps, hurts: a difference in {metric.title} to the baseline at {level}, by the t test that includes the training,"
        " after Holm's correction over the rows of a column; it holds for these recipes, budgets and data."
    )
    if spec.margin is not None:
        unit = metric.unit if metric.unit.startswith("x") else f"({metric.unit})"
        yield (
            f"equivalent: the difference is within ±{spec.margin:g} ({metric.title} {unit}, a margin stated before), by two"
            f" one-sided tests at {level} after Holm's correction; it goes before helps and hurts."
        )
    else:
        yield "equivalent: not tested, since the table states no margin."
    yield "undecided: neither was shown. This is no evidence that there is no difference."
    if (judged["verdict"] == "undecided").any() and judged["draws_needed"].notna().any():
        aim = (
            "to find a difference as large as the margin, or equivalence if there is none"
            if spec.margin is not None
            else "to find a difference as large as the one measured"
        )
        yield (
            f"Draws: with 80 % power {aim}, by the variances measured here, before Holm's correction, with draws that share no"
            f" case. From {count(len(spec.folds), 'draw')} this is a rough number."
        )
