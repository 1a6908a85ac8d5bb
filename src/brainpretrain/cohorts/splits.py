"""Splits by subject: the pool and test set of a task, its folds, and the subjects of each cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import DISJOINT, VALIDATION, kfold
from brainpretrain.errors import UserError
from brainpretrain.files import is_drawn, read_json


def draw_by_hash(patients: Mapping[str, str], test_fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Pool and fixed test set, both sorted; each patient is drawn by itself, so that subjects that come or go move nobody.

    The size of the test set varies as that of independent draws: with n subjects and share p its standard deviation is
    sqrt(n p (1 - p)). The same holds within every site.

    Args:
        patients: subject to patient; the subjects of a patient are on one side.
        test_fraction: share of the test set, 0..1.

    Raises:
        UserError: nobody is in the pool.
    """
    drawn = {subject for subject, patient in patients.items() if is_drawn(patient, test_fraction, seed)}
    pool = sorted(set(patients) - drawn)
    if not pool:
        problem = f"no split: all of {len(patients)} subjects are in the test set" if patients else "a split needs subjects"
        raise UserError(problem, where="split", fix="add subjects, or change test_fraction or seed")
    return pool, sorted(drawn)


def holdout(
    subjects: Iterable[str], test_fraction: float, seed: int, sites: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Pool and fixed test set, both sorted, drawn as AMAES did: 1251 subjects of BraTS21 give 938 and 313.

    Args:
        test_fraction: share of the test set, 0..1.
        sites: site of each subject; the test set then has every site in its proportion.

    Raises:
        UserError: there are no subjects, or a site has a single one.
    """
    ordered = sorted(set(subjects))
    if not ordered:
        raise UserError("a split needs subjects and there are none", where="split", fix="add subjects")
    if test_fraction == 0:
        return ordered, []
    from sklearn.model_selection import train_test_split  # here, since `corpus` and `evaluate` do not need it

    strata = [sites[subject] for subject in ordered] if sites else None
    try:
        pool, test = train_test_split(ordered, test_size=test_fraction, random_state=seed, stratify=strata)
    except ValueError as error:
        problem, fix = ("no split by site", "remove 'stratify', or") if sites else ("no split", "add subjects, or")
        raise UserError(f"{problem}: {error}", where="split", fix=f"{fix} change test_fraction") from error
    return sorted(pool), sorted(test)


def fold_order(pool: list[str], fold: int, block: int, seed: int, sites: Mapping[str, str] | None = None) -> list[str]:
    """The pool in the order in which this fold draws training subjects: its first n subjects are those of `n_train: n`.

    Fold k starts k blocks into one shuffled pool; when the pool is used up, it is shuffled again. The folds of one shuffle
    share none of their first `block` subjects, and a further fold changes no earlier one. With `sites`, every part of the
    order has the sites in the proportions of the pool, up to one subject of each.
    """
    folds_per_shuffle = max(1, len(pool) // block)
    shuffle, position = divmod(fold, folds_per_shuffle)
    shuffled = np.random.default_rng([seed, shuffle]).permutation(np.array(pool, dtype=object))
    if sites:
        shuffled = np.array(_interleaved([str(subject) for subject in shuffled], sites), dtype=object)
    return [str(subject) for subject in np.roll(shuffled, -position * block)]


def _interleaved(shuffled: list[str], sites: Mapping[str, str]) -> list[str]:
    """The subjects in an order that spreads each site evenly; within a site they keep their shuffled order."""
    position = {}
    for site in sorted(set(sites.values())):
        members = [subject for subject in shuffled if sites[subject] == site]
        position |= {subject: (number + 0.5) / len(members) for number, subject in enumerate(members)}
    return sorted(shuffled, key=position.__getitem__)


def split(index: pd.DataFrame, task: Mapping[str, Any], given: Path | None = None) -> dict[str, Any]:
    """Pool and fixed test set of a task, as JSON can store them.

    `draw: hash` draws each patient by itself; `shuffle`, also without `draw`, draws subjects by name as in published splits.
    `patients` (subject to patient) lists the subjects that share a
    patient with another subject, so that no fold trains on a patient whom it scores. `subsets` names the subsets of the task
    where other subsets hold further volumes of the same session and sequence.

    Args:
        index: rows of the task's data set, with columns subject, sequence, subset and label, and patient where it is known.
        task: dataset, sequences, subsets and split of the task entry.
        given: a file with the folds of a cross-validation, in nnU-Net's format.

    Returns:
        dataset, draw (the rule), seed, pool, test and patients; if the split is stratified by site, also `sites` by subject.
        Of a cross-validation also `parts`, lists of subjects; pool and test then have everybody.

    Raises:
        UserError: there are no subjects, the split is stratified and the site of a subject is unknown, or a labelled session has
            several volumes of a sequence.
    """
    rule, rows = task["split"], _labelled(index, task["subsets"], task["sequences"])
    if rows.empty:
        problem = "a split needs subjects with labels, and there are none"
        raise UserError(problem, where=f"task on {task['dataset']}", fix=where_labels_are(index, task["sequences"], "the task"))
    sites = {"sites": _sites(rows)} if rule.get("stratify") else {}
    draw, parts = rule.get("draw", "shuffle"), {}
    if rule.get("kind") == "kfold":
        draw, of_subject = "kfold", dict(zip(rows["subject"], patients(rows), strict=True))
        if given:
            parts["parts"] = kfold.given(read_json(given), rows, of_subject, rule["k"], given)
        else:
            parts["parts"] = kfold.drawn(of_subject, rule["k"], rule["seed"], sites.get("sites"))
        pool = test = sorted(of_subject)
    elif draw == "hash":
        of_subject = dict(zip(rows["subject"], patients(rows), strict=True))
        pool, test = draw_by_hash(of_subject, rule["test_fraction"], rule["seed"])
    else:
        pool, test = holdout(rows["subject"], rule["test_fraction"], rule["seed"], sites.get("sites"))
    drawn = {"dataset": task["dataset"], "draw": draw, "seed": rule["seed"], "pool": pool, "test": test} | parts
    return drawn | {"patients": _namesakes(index)} | sites | chosen(index, task["sequences"], task["subsets"], task["dataset"])


def where_labels_are(index: pd.DataFrame, sequences: list[str], who: str) -> str:
    """Which subsets have labels for these sequences, or which sequences have any."""
    labelled = index[index["label"] != ""]
    if subsets := sorted(set(labelled[labelled["sequence"].isin(sequences)]["subset"])):
        return f"name subsets with labels in the `subsets` of {who}: {', '.join(subsets)}"
    found = sorted(set(labelled["sequence"]))
    return f"name a sequence with labels in the task: {', '.join(found)}" if found else "choose a data set with labels"


def chosen(index: pd.DataFrame, sequences: list[str], subsets: list[str], dataset: str) -> dict[str, list[str]]:
    """`subsets`, if without them a labelled session would have several volumes of a sequence; else empty.

    Raises:
        UserError: a session has several volumes of a sequence.
    """
    rows = index[index["sequence"].isin(sequences)]
    rows = rows.merge(rows[rows["label"] != ""][["subject", "session"]].drop_duplicates())
    if not rows.duplicated(["subject", "session", "sequence"]).any():
        return {}
    refuse_several(rows[rows["subset"].isin(subsets)] if subsets else rows, f"task on {dataset}")
    return {"subsets": subsets}


def refuse_several(rows: pd.DataFrame, where: object) -> None:
    """Refuses volumes of which a session has several of one sequence.

    Raises:
        UserError: says how to choose one.
    """
    several = rows[rows.duplicated(["subject", "session", "sequence"], keep=False)]
    if several.empty:
        return
    names = list(several["volume"])
    subsets = sorted(set(several[several["label"] != ""]["subset"])) or [""]
    apart = not several.duplicated(["subject", "session", "sequence", "subset"]).any()
    choice = f"name one of their subsets in the task, such as `subsets: [{subsets[0]}]`"
    raise UserError(
        f"several volumes of one sequence in one session: {' '.join(names[:6])}{' ...' * (len(names) > 6)}",
        where=where,
        fix=choice
        if apart
        else "keep one of them: move the other files out of the folder of the raw data, or remove their lines"
        " from its table; then snakemake <your options> --forcerun fetch -- <targets>",
    )


def split_for(
    index: pd.DataFrame,
    task: Mapping[str, Any],
    evaluations: Iterable[tuple[str, str]],
    where: object,
    given: Path | None = None,
) -> dict[str, Any]:
    """`split`, refused if it has too few subjects for the evaluations of a study.

    Args:
        index, task, given: as for `split`.
        evaluations: pairs of n_train and cohort.
        where: the place of the task, for the message.

    Raises:
        UserError: as `split` and `check_sizes`. If subjects are drawn one by one and another seed gives enough of them, the
            message names the seed among the first 200 whose test set is nearest to the fraction.
    """
    evaluations = list(evaluations)
    try:
        subjects = split(index, task, given)
        check_sizes(subjects, evaluations, where)
    except UserError as error:
        better = _better_seed(index, task, evaluations)
        if better is None:
            raise
        seed, pool, test = better
        fix = f"set 'seed: {seed}' in the split of the task, which gives a pool of {pool} and a test set of {test}"
        raise UserError(error.problem, where=where, fix=f"{fix}; or lower n_train, or change test_fraction") from error
    return subjects


def _better_seed(index: pd.DataFrame, task: Mapping[str, Any], evaluations: list[tuple[str, str]]) -> tuple[int, int, int] | None:
    """A seed that gives enough subjects for the evaluations, with the sizes of pool and test set; None if there is none."""
    if task["split"].get("draw") != "hash":
        return None  # the size of a shuffled test set is the same for every seed
    found = []
    for seed in range(200):
        try:
            subjects = split(index, {**task, "split": {**task["split"], "seed": seed}})
            check_sizes(subjects, evaluations, "")
        except UserError:
            continue
        pool, test = len(subjects["pool"]), len(subjects["test"])
        found.append((abs(test - task["split"]["test_fraction"] * (pool + test)), seed, pool, test))
    return min(found)[1:] if found else None


def check_sizes(subjects: Mapping[str, Any], evaluations: Iterable[tuple[str, str]], where: object) -> None:
    """Refuses a split with too few subjects for the evaluations of a study.

    Args:
        subjects: the result of `split`.
        evaluations: pairs of n_train and cohort; of a number and `DISJOINT`, if folds may share no training case; of a
            number and `VALIDATION`, which training and validation need together.
        where: the file of the split, or the task, for the message.

    Raises:
        UserError: listing every n_train for which the pool is too small, and every cohort that is empty.
    """
    pool, parts, problems = training_pool(subjects), subjects.get("parts"), []
    size, name = len(pool), "the pool"
    if parts:
        size, name = len(pool) - max(map(len, parts)), f"the training part of a fold of {len(parts)}"
    for n_train, cohort in evaluations:
        if cohort == DISJOINT:
            if int(n_train) > len(pool):
                problems.append(f"folds without a common training case need {n_train} subjects, but the pool has {len(pool)}")
        elif cohort == VALIDATION:
            if int(n_train) > size:
                problems.append(f"training and validation need {n_train} subjects, but {name} has {size}")
        elif n_train != "all" and int(n_train) > size:
            problems.append(f"n_train is {n_train}, but {name} has {size} subjects")
        elif cohort == "val" and n_train in ("all", str(size)):
            problems.append(f"n_train {n_train} of {size} subjects in {name} leaves none for the cohort 'val'")
        elif cohort == "test" and not subjects["test"]:
            problems.append("the cohort 'test' has no subjects")
    if problems:
        change = "raise k" if parts else "change test_fraction or seed"
        fix = f"lower n_train, or {change}; if subjects were added since, delete the file"
        raise UserError("\n".join(dict.fromkeys(problems)), where=where, fix=fix)


def incomplete(index: pd.DataFrame, task: Mapping[str, Any]) -> list[str]:
    """A line for every labelled subject that lacks a sequence of the task and therefore cannot be a case."""
    labelled = _labelled(index, task["subsets"], task["sequences"])[["subject", "session"]].drop_duplicates()
    by_session = index.merge(labelled).groupby(["subject", "session"])["sequence"].agg(set)
    lines = []
    for session, sequences in by_session.items():
        if missing := [name for name in task["sequences"] if name not in sequences]:
            lines.append(f"{' '.join(session).strip()} lacks {', '.join(missing)}")
    return lines


def _sites(rows: pd.DataFrame) -> dict[str, str]:
    """Subject to site.

    Raises:
        UserError: the site of a subject is unknown.
    """
    sites = dict(sorted(zip(rows["subject"], rows["site"], strict=True)))
    if unknown := [subject for subject, site in sites.items() if not site]:
        raise UserError(
            f"the site of {len(unknown)} subjects is unknown, {unknown[0]} for one", fix="remove 'stratify' from the split"
        )
    return sites


def _namesakes(index: pd.DataFrame) -> dict[str, str]:
    """The patient of each subject that shares one with another subject."""
    pairs = pd.DataFrame({"subject": index["subject"], "patient": patients(index)}).drop_duplicates()
    shared = pairs[pairs.duplicated("patient", keep=False)]
    return dict(sorted(zip(shared["subject"], shared["patient"], strict=True)))


def patients(rows: pd.DataFrame) -> pd.Series:
    """The patient of each row; the subject where the table has none, as those of earlier versions."""
    if "patient" not in rows:
        return rows["subject"]
    return rows["patient"].where(rows["patient"].fillna("") != "", rows["subject"])


def training_pool(subjects: Mapping[str, Any]) -> list[str]:
    """The pool of `subjects` (the result of `split`) without other names of patients in the test set."""
    excluded = _same_patient(subjects, subjects["test"])
    return [name for name in subjects["pool"] if name not in excluded]


def _same_patient(subjects: Mapping[str, Any], others: Iterable[str]) -> set[str]:
    """Other names of the patients of `others`, by the key `patients` of `subjects`."""
    patients = subjects.get("patients", {})
    taken = {patients[subject] for subject in others if subject in patients}
    return {subject for subject, patient in patients.items() if patient in taken} - set(others)


def ood(
    index: pd.DataFrame, task: Mapping[str, Any], subjects: Mapping[str, Any], cohort: str = "ood", where: object = ""
) -> dict[str, Any]:
    """A cohort from another subset or data set, as JSON can store it. It is not part of the split: adding one retrains nothing.

    Args:
        index: rows of the data set of the cohort.
        task: sequences of the task, and the entry of the cohort as `ood`; `of: test` there means the subjects of the test set.
        subjects: the result of `split` for the task.
        cohort: its name: `ood`, or one of the task's `cohorts`.
        where: the place of its entry, for the message.

    Raises:
        UserError: the cohort is empty, or one of its subjects is in the pool or the test set.
    """
    spec = task["ood"]
    if spec.get("of") == "test":
        return {"dataset": subjects["dataset"], cohort: subjects["test"]} | {k: v for k, v in subjects.items() if k == "subsets"}
    names = sorted(set(_labelled(index, spec["subsets"], task["sequences"])["subject"]))
    where = where or f"task on {subjects['dataset']}"
    both = sorted(set(names) & {*subjects["pool"], *subjects["test"]}) if spec["dataset"] == subjects["dataset"] else []
    if both:
        raise UserError(
            f"{len(both)} subjects of the cohort '{cohort}' are in the pool or the test set, {both[0]} for one",
            where=where,
            fix=f"name the 'subsets' of the task and of its '{cohort}'",
        )
    if not names:
        raise UserError(
            f"the cohort '{cohort}' of the data set '{spec['dataset']}' has no labelled subjects",
            where=where,
            fix=where_labels_are(index, task["sequences"], f"its '{cohort}'"),
        )
    subsets = chosen(index, task["sequences"], spec["subsets"], spec["dataset"])
    return {"dataset": spec["dataset"], cohort: names} | subsets


def fold(subjects: Mapping[str, Any], number: int, block: int) -> dict[str, Any]:
    """The split of one fold: `order` is the training pool of `subjects` (the result of `split`) in the order of `fold_order`."""
    if parts := subjects.get("parts"):
        return _fold_of_parts(subjects, parts, number)
    pool, sites = set(training_pool(subjects)), subjects.get("sites")
    order = [name for name in fold_order(subjects["pool"], number, block, subjects["seed"], sites) if name in pool]
    names = {"order": order, "patients": subjects.get("patients", {})}
    if "subsets" in subjects:
        names["subsets"] = subjects["subsets"]
    return {"dataset": subjects["dataset"], "seed": subjects["seed"], "fold": number, "block": block} | names


def _fold_of_parts(subjects: Mapping[str, Any], parts: list[list[str]], number: int) -> dict[str, Any]:
    """A fold of a cross-validation: `held_out` is scored, `order` has the other parts in an order of this fold."""
    if number >= len(parts):
        raise UserError(f"there is no fold {number} of {len(parts)}", where="--fold", fix=f"folds: {len(parts)} in the study")
    rest = [name for name in subjects["pool"] if name not in set(parts[number])]
    order = fold_order(rest, number, len(rest), subjects["seed"], subjects.get("sites"))
    found = {"dataset": subjects["dataset"], "seed": subjects["seed"], "fold": number, "block": len(rest), "order": order}
    found |= {"held_out": parts[number], "patients": subjects.get("patients", {})}
    return found | ({"subsets": subjects["subsets"]} if "subsets" in subjects else {})


def _labelled(index: pd.DataFrame, subsets: list[str], sequences: list[str]) -> pd.DataFrame:
    rows = index[(index["label"] != "") & index["sequence"].isin(sequences)]
    if subsets:
        rows = rows[rows["subset"].isin(subsets)]
    return rows


def training_subjects(fold_split: Mapping[str, Any], usable: set[str], n_train: str) -> list[str]:
    """The first `n_train` usable subjects of a fold's order; 'all' takes every usable one.

    Args:
        fold_split: the result of `fold`.
        usable: subjects with a complete stored case.

    Raises:
        UserError: fewer than `n_train` subjects are usable.
    """
    order = [subject for subject in fold_split["order"] if subject in usable]
    if n_train == "all":
        return order
    if int(n_train) > len(order):
        raise UserError(
            f"n_train is {n_train}, but the pool has {len(order)} usable subjects",
            where=f"data set {fold_split['dataset']}, fold {fold_split['fold']}",
            fix=f"lower n_train to {len(order)} or less, or see why volumes were rejected (`reason` in volumes.tsv)",
        )
    return order[: int(n_train)]


def validation_subjects(
    fold_split: Mapping[str, Any], usable: set[str], n_train: str, number_of: Callable[[int], int], taken_from: str
) -> tuple[list[str], list[str]]:
    """The subjects that train and those that a training is validated on; no patient is on both sides.

    Smaller budgets stay parts of larger ones, since those that validate are the last of the n_train subjects.

    Args:
        fold_split: the result of `fold`.
        usable: subjects with a complete stored case.
        n_train: number of labelled subjects, or 'all'.
        number_of: returns the number of subjects that validate, for the number of labelled ones.
        taken_from: `training`: they are among the n_train subjects; `pool`: they follow after them in the order of the fold.

    Raises:
        UserError: nobody is left to train, or the pool has too few further subjects.
    """
    train = training_subjects(fold_split, usable, n_train)
    number = number_of(len(train))
    where = f"data set {fold_split['dataset']}, fold {fold_split['fold']}, validation of the recipe"
    if taken_from == "pool":
        taken = set(train) | _same_patient(fold_split, train)
        others = [subject for subject in fold_split["order"] if subject in usable and subject not in taken]
        if len(others) < number:
            problem = (
                f"the pool has {len(others)} usable subjects besides the {len(train)} that train, and {number} are to validate"
            )
            raise UserError(problem, where=where, fix="lower n_train or 'subjects', or use 'taken_from: training'")
        return train, others[:number]
    last = set(train[len(train) - number :] if number < len(train) else train)
    last |= _same_patient(fold_split, last)
    kept = [subject for subject in train if subject not in last]
    if not kept:
        problem = f"{number} of {len(train)} subjects are to validate, which leaves none to train"
        raise UserError(problem, where=where, fix="lower 'subjects', raise n_train, or use 'taken_from: pool'")
    return kept, [subject for subject in train if subject in last]


def named_subjects(fold_split: Mapping[str, Any], cohort: str, fixed: Mapping[str, Any]) -> list[str]:
    """The subjects of a cohort of a fold, usable or not, except that `val` still holds those that train."""
    if cohort == "val":
        return fold_split["order"]
    return fold_split["held_out"] if cohort == "test" and "held_out" in fold_split else fixed.get(cohort, [])


def cohort_subjects(
    fold_split: Mapping[str, Any], usable: set[str], n_train: str, cohort: str, fixed: Mapping[str, Any] | None = None
) -> list[str]:
    """Usable subjects of a cohort: for `val` the pool without this fold's training patients, else those of `fixed`.

    In a cross-validation `test` is the part that the fold holds out, and `val` the rest of its training part.

    Args:
        fold_split: the result of `fold`.
        usable: subjects with a complete stored case.
        fixed: the result of `split` for the cohort `test`, of `ood` for cohorts of other subsets or data sets.

    Raises:
        UserError: the cohort is empty.
    """
    if cohort == "val":
        train = set(training_subjects(fold_split, usable, n_train))
        train |= _same_patient(fold_split, train)
        subjects = sorted(s for s in fold_split["order"] if s in usable and s not in train)
    else:
        subjects = [subject for subject in named_subjects(fold_split, cohort, fixed or {}) if subject in usable]
    if not subjects:
        change = {"val": "lower n_train", "test": "raise test_fraction of the task"}.get(cohort, "add subjects to its subsets")
        raise UserError(
            f"cohort '{cohort}' has no subjects",
            where=f"data set {fold_split['dataset']}, fold {fold_split['fold']}, n_train {n_train}",
            fix=f"{change}, or see why volumes were rejected (`reason` in volumes.tsv)",
        )
    return subjects
