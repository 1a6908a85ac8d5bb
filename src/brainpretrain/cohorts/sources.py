"""The subjects of the sources of a task: further data sets whose labelled cases train its networks and are never scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import splits
from brainpretrain.cohorts.overlap import Cohort, shared_subjects
from brainpretrain.errors import UserError


def labelled_volumes(index: pd.DataFrame, source: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of the index of a source that its cases may come from: those of its sequences in labelled subjects.

    Args:
        index: of the data set of the source.
        source: its dataset, sequences (of the task), subsets, and `exclude` with subjects to leave out.
    """
    rows = index[index["sequence"].isin(source["sequences"])]
    rows = rows[rows["subset"].isin(source["subsets"])] if source["subsets"] else rows
    return rows[rows["subject"].isin(set(rows.loc[rows["label"] != "", "subject"]) - set(source["exclude"]))]


def volumes_of(sources: Iterable[Mapping[str, Any]], indexes: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The volumes of sources (what `pool` returned) as rows of a corpus, for the overlap audit: dataset, volume, subject."""
    tables = []
    for source in sources:
        index = indexes[source["dataset"]]
        rows = index[index["subject"].isin(source["pool"]) & index["volume"].isin(source["volumes"])]
        tables.append(rows[["volume", "subject"]].assign(dataset=source["dataset"]))
    return pd.concat(tables, ignore_index=True).drop_duplicates()


def pool(
    source: Mapping[str, Any],
    cohorts: Iterable[tuple[str, str, set[str]]],
    indexes: Mapping[str, pd.DataFrame],
    persons: Mapping[str, Mapping[str, str]],
    where: object,
) -> dict[str, Any]:
    """The labelled subjects of a source, without everyone who is scored under this or another known name.

    Copies under names that no module declares are found by the overlap audit, which reads images.

    Args:
        source: as for `labelled_volumes`.
        cohorts: name, data set and subjects of every cohort of the task that is scored.
        indexes: of the data sets of source and cohorts.
        persons: as for `overlap.shared_subjects`.
        where: the place of the source, for messages.

    Returns:
        dataset, pool (sorted subjects), volumes (of the pool), and excluded (those who are scored); `subsets` as in a split,
        where a choice is needed.

    Raises:
        UserError: no subject is left, or a labelled session has several volumes of a sequence.
    """
    dataset, index = source["dataset"], indexes[source["dataset"]]
    rows = labelled_volumes(index, source)
    if rows.empty:
        fix = splits.where_labels_are(index, source["sequences"], "the source")
        raise UserError(f"the source '{dataset}' has no labelled subjects", where=where, fix=fix)
    scored = [Cohort("", name, of, subjects, pd.DataFrame()) for name, of, subjects in cohorts]
    _, pairs = shared_subjects(rows.assign(dataset=dataset), scored, indexes, persons)
    excluded = set(pairs["corpus_subject"])
    names = sorted(set(rows["subject"]) - excluded)
    if not names:
        problem = f"each of the {len(excluded)} labelled subjects of the source '{dataset}' is scored, {min(excluded)} for one"
        raise UserError(problem, where=where, fix="choose another data set or subset, or score other cohorts")
    volumes = sorted(rows.loc[rows["subject"].isin(names), "volume"])
    drawn = {"dataset": dataset, "pool": names, "volumes": volumes, "excluded": sorted(excluded)}
    return drawn | splits.chosen(index, source["sequences"], source["subsets"], dataset)


def orders(sources: Sequence[Mapping[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """For each source its subjects in the order in which a fold draws them; every fold has a shuffle of its own.

    The first n of an order train, so that a smaller number is a part of a larger one.

    Args:
        sources: what `pool` returned.
        number: of the fold.
        seed: of the split of the task.
    """
    found = []
    for place, source in enumerate(sources):
        rng = np.random.default_rng([seed, number, place])
        order = [str(name) for name in rng.permutation(np.array(source["pool"], dtype=object))]
        found.append({"dataset": source["dataset"], "order": order, "subsets": source.get("subsets", [])})
    return found


def training_subjects(order: Sequence[str], usable: set[str], n: int | str, n_target: int, where: object) -> list[str]:
    """The first subjects of the order of a source: all, n, or as many as train of the target (`matched`).

    Args:
        order: of `orders`.
        usable: subjects with a complete stored case.
        n: the number, 'all' or 'matched'.
        n_target: subjects of the target that train.
        where: the source, for messages.

    Raises:
        UserError: there are fewer.
    """
    names = [name for name in order if name in usable]
    wanted = {"all": len(names), "matched": n_target}.get(n, n)  # type: ignore[call-overload]
    if len(names) < max(1, int(wanted)):
        raise UserError(
            f"{max(1, int(wanted))} subjects of the source are to train, and {len(names)} have a usable case",
            where=where,
            fix=f"use {len(names)} or fewer, or see why volumes were rejected (`reason` in volumes.tsv)",
        )
    return names[: int(wanted)]
