"""The corpus of a pretraining: its volumes, split by patient into training and validation, and copies of one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import filters, splits
from brainpretrain.errors import UserError
from brainpretrain.files import stable_hash
from brainpretrain.preprocess import rejections

_IMAGE = ["checksum", "shape", "bytes", "mean", "std"]  # of a stored volume; the checksum alone had 32 bits once
_KINDS = {"sequences": "sequence", "subsets": "subset"}
CORPUS_COLUMNS = ["dataset", "volume", "subject", "session", "sequence", "role", "file", "checksum", "shape"]


def make_corpus(
    tables: Mapping[str, pd.DataFrame], spec: Mapping[str, Any], pools: Mapping[str, set[str]], seed: int
) -> pd.DataFrame:
    """The volumes that a pretraining reads, each with its role (train or val), split by patient.

    Args:
        tables: by data set, the table of its stored volumes (status, subset, sequence ...); `file` is relative to the data
            folder.
        spec: the corpus entry of the config.
        pools: for each task named by a `pool_of`, the subjects that may be used.
        seed: draws the validation subjects, and the order in which `subjects` of the spec draws those that train.

    Returns:
        CORPUS_COLUMNS, sorted by data set and volume.

    Raises:
        UserError: no volume or no training subject is left, the filters leave nothing of a source, more subjects are asked for
            than there are, or a subject in `exclude` is not in the table.
    """
    rows, _ = _selected(tables, spec, pools)
    if rows.empty:
        raise UserError("the corpus is empty", where=str(spec["sources"]), fix=_what_there_is(tables, spec))
    names = keys = rows["dataset"] + "/" + splits.patients(rows)
    for group in copies(rows):  # one image under several names is one patient
        merged = set(keys[names.isin(group)])
        keys = keys.where(~keys.isin(merged), min(merged))
    subjects = sorted(set(keys))
    n_val = int(np.ceil(spec["val_fraction"] * len(subjects))) if spec["val_fraction"] else 0
    if n_val >= len(subjects):
        most = (len(subjects) - 1) * 1000 // len(subjects) / 1000
        fix = f"lower val_fraction to {most:g} or less, or add subjects"
        raise UserError(f"{len(subjects)} subject(s) leave none to train on", where="val_fraction", fix=fix)
    validation = set(np.random.default_rng(seed).permutation(np.array(subjects, dtype=object))[:n_val])
    rows["role"] = np.where(keys.isin(validation), "val", "train")
    kept = validation | _drawn(set(subjects) - validation, spec.get("subjects"), seed)
    rows = rows[keys.isin(kept)]
    return rows.sort_values(["dataset", "volume"])[CORPUS_COLUMNS].reset_index(drop=True)


def _what_there_is(tables: Mapping[str, pd.DataFrame], spec: Mapping[str, Any]) -> str:
    """The sequences and subsets that the sources of an empty corpus have."""
    parts = []
    for name in dict.fromkeys(source["dataset"] for source in spec["sources"]):
        stored = tables[name][tables[name]["status"] == "ok"]
        found = [f"{kind} {', '.join(sorted(set(stored[column])))}" for kind, column in _KINDS.items() if len(stored)]
        parts.append(f"'{name}' has {' and '.join(found) or 'no stored volumes'}")
    return f"name what is there, or nothing for all: {'; '.join(parts)}"


def _drawn(subjects: set[str], wanted: int | float | None, seed: int) -> set[str]:
    """The number or share (0..1) of subjects that is wanted, all for None. A smaller draw is a part of every larger one.

    Raises:
        UserError: there are fewer.
    """
    if wanted is None:
        return subjects
    number = wanted if isinstance(wanted, int) else max(1, round(wanted * len(subjects)))
    if number > len(subjects):
        problem = f"{number} subjects are wanted for training, and there are {len(subjects)}"
        raise UserError(problem, where="corpora: subjects", fix=f"lower it to {len(subjects)} or less, or leave it out for all")
    return set(sorted(subjects, key=lambda name: (stable_hash(f"corpus {seed} {name}"), name))[:number])


def filtered(tables: Mapping[str, pd.DataFrame], spec: Mapping[str, Any], pools: Mapping[str, set[str]]) -> pd.DataFrame:
    """The volumes that the filters of a corpus leave out, each with the reason: `filters.FILTERED_COLUMNS`.

    Args and errors: as `make_corpus`.
    """
    _, left_out = _selected(tables, spec, pools)
    return left_out.sort_values(["dataset", "volume"])[filters.FILTERED_COLUMNS].reset_index(drop=True)


def _selected(
    tables: Mapping[str, pd.DataFrame], spec: Mapping[str, Any], pools: Mapping[str, set[str]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The accepted volumes of all sources of a corpus, each once; and those that its filters leave out.

    Raises:
        UserError: a subject in `exclude` is not in the table, or all volumes of a source are rejected or left out.
    """
    parts = []
    for source in spec["sources"]:
        table = tables[source["dataset"]]
        keep = pd.Series(True, index=table.index)
        if source["sequences"]:
            keep &= table["sequence"].isin(source["sequences"])
        if source["subsets"]:
            keep &= table["subset"].isin(source["subsets"])
        if source["pool_of"]:
            keep &= table["subject"].isin(pools[source["pool_of"]])
        excluded = source.get("exclude", [])
        if missing := sorted(set(excluded) - set(table["subject"])):
            raise UserError(
                f"no subject {', '.join(missing)} to leave out", where=f"exclude of {source['dataset']}", fix="correct the names"
            )
        keep &= ~table["subject"].isin(excluded)
        rejections.check_any_stored(table[keep], f"the source '{source['dataset']}'", f"sources: {dict(source)}")
        keep &= table["status"] == "ok"
        part = table[keep].assign(dataset=source["dataset"])
        if limits := spec.get("filters"):
            verdicts = filters.judged(part, limits)
            filters.require_some(part, verdicts, source["dataset"], "corpora: filters")
            part = part.assign(detail=verdicts["detail"], reason=verdicts["reason"])
        parts.append(part)
    rows = pd.concat(parts, ignore_index=True).drop_duplicates(["dataset", "volume"])
    passed = rows["reason"] == "" if spec.get("filters") else pd.Series(True, index=rows.index)
    return rows[passed].reset_index(drop=True), rows[~passed]


def copies(rows: pd.DataFrame) -> list[list[str]]:
    """Different patients with a bitwise equal stored volume, in groups of `<data set>/<patient>`.

    Args:
        rows: of tables of stored volumes, with the column `dataset`.
    """
    keys = rows["dataset"] + "/" + splits.patients(rows)
    groups = keys.groupby([rows[name] for name in _IMAGE]).agg(lambda names: sorted(set(names)))
    return sorted({tuple(names): list(names) for names in groups if len(names) > 1}.values())


def copies_in_corpus(tables: Mapping[str, pd.DataFrame], corpus: pd.DataFrame) -> list[list[str]]:
    """As `copies`, among the volumes of a corpus.

    Args:
        tables: by data set, the table of its stored volumes.
        corpus: what `make_corpus` returned.
    """
    rows = pd.concat([table.assign(dataset=name) for name, table in tables.items()], ignore_index=True)
    return copies(rows.merge(corpus[["dataset", "volume"]], on=["dataset", "volume"]))
