"""Audits: who of a corpus is scored too, what a corpus is made of, and under which licences a study works."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.datasets.base import Dataset
from brainpretrain.datasets.own.options import UNSTATED
from brainpretrain.errors import UserError
from brainpretrain.report.grid import Cell, Grid

OVERLAP_COLUMNS = ["task", "cohort", "dataset", "evaluated", "shared", "by_name", "by_content", "subjects"]
IMAGE = ["how", "correlation", "volume", "corpus_volume"]  # of two volumes that show the same
PAIR_COLUMNS = ["task", "cohort", "dataset", "subject", "corpus_dataset", "corpus_subject", "name", "volumes", *IMAGE]
_LISTED = 20  # names in a message; the rest is counted

# ------------------------------------------------------------------------------------------------ overlap


@dataclass(frozen=True)
class Cohort:
    """Subjects of a data set that some fold of a task scores.

    `copies`: what `fingerprints.copies` found of them, with a column `corpus_dataset`.
    """

    task: str
    name: str
    dataset: str
    subjects: set[str]
    copies: pd.DataFrame


def cohort_subjects(cohort: str, whole: Mapping[str, Any]) -> set[str]:
    """Who may be scored, from what `split` or `ood` returned: the cohort `val` of some fold may hold any subject of the pool."""
    return set(whole["pool" if cohort == "val" else cohort])


def overlap(
    corpus: pd.DataFrame, cohorts: Iterable[Cohort], indexes: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Subjects that are in a corpus and are scored too, by name and by image.

    By name: the same subject or patient of the same data set; of another data set only if one of the two modules declares the
    name as an alias, since plain names such as `sub-01` occur in many.

    Args:
        corpus: dataset, volume and subject.
        indexes: of every data set of corpus and cohorts: volume, subject, and `patient` where the index has it.

    Returns:
        A row per cohort with OVERLAP_COLUMNS (`subjects`: those shared, separated by blanks; `by_content` counts all that
        were found by an image, under whatever name), and a row per pair of subjects with PAIR_COLUMNS (`name` is 'same',
        'alias' or ''; `volumes` counts pairs of equal images, `how` and what follows is the nearest of them).
    """
    known = _Names(corpus, indexes)
    summary, pairs = [], []
    for cohort in cohorts:
        found = sorted([*_by_name(cohort, known), *_by_content(cohort, known)], key=lambda pair: pair["subject"])
        merged = _merged(found)
        by_name = {pair["subject"] for pair in merged if pair["name"]}
        by_content = {pair["subject"] for pair in merged if pair["volumes"]}
        whose = {"task": cohort.task, "cohort": cohort.name, "dataset": cohort.dataset}
        counts = {"evaluated": len(cohort.subjects), "by_name": len(by_name), "by_content": len(by_content)}
        shared = sorted(by_name | by_content)
        summary.append(whose | counts | {"shared": len(shared), "subjects": " ".join(shared)})
        pairs += [whose | pair for pair in merged]
    return pd.DataFrame(summary, columns=OVERLAP_COLUMNS), pd.DataFrame(pairs, columns=PAIR_COLUMNS)


class _Names:
    """Who is who: subjects and patients of a corpus and of the data sets that are scored."""

    def __init__(self, corpus: pd.DataFrame, indexes: Mapping[str, pd.DataFrame]) -> None:
        self.patients = {name: patients(index) for name, index in indexes.items()}
        self.subject_of = {name: dict(zip(index["volume"], index["subject"], strict=True)) for name, index in indexes.items()}
        self.by_patient: dict[str, set[tuple[str, str]]] = {}
        for dataset, subject in sorted(set(zip(corpus["dataset"], corpus["subject"], strict=True))):
            self.by_patient.setdefault(self.patient(dataset, subject), set()).add((dataset, subject))

    def patient(self, dataset: str, subject: str) -> str:
        return self.patients.get(dataset, {}).get(subject, subject)


def patients(index: pd.DataFrame) -> dict[str, str]:
    """Subject to patient: equal, but where the index knows that one patient has several names."""
    column = "patient" if "patient" in index.columns else "subject"  # an earlier version wrote none
    return {subject: patient or subject for subject, patient in zip(index["subject"], index[column], strict=True)}


def on_both_sides(split: Mapping[str, Any]) -> list[str]:
    """The patients who are in pool and test set of a split under two names; no fold trains on them."""
    patient = split.get("patients", {})  # an earlier version wrote none
    pool, test = ({patient[subject] for subject in split[part] if subject in patient} for part in ("pool", "test"))
    return sorted(pool & test)


def _by_name(cohort: Cohort, known: _Names) -> Iterator[dict[str, Any]]:
    for subject in cohort.subjects:
        patient = known.patient(cohort.dataset, subject)
        for dataset, other in known.by_patient.get(patient, ()):
            same = dataset == cohort.dataset and other == subject
            if dataset == cohort.dataset or not subject == other == patient:
                yield _pair(subject, dataset, other) | {"name": "same" if same else "alias"}


def _by_content(cohort: Cohort, known: _Names) -> Iterator[dict[str, Any]]:
    for row in cohort.copies.to_dict("records"):
        subject = known.subject_of[cohort.dataset][row["volume"]]
        dataset = row["corpus_dataset"]
        if subject in cohort.subjects:
            pair = _pair(subject, dataset, known.subject_of[dataset][row["corpus_volume"]])
            image = {key: row[key] for key in IMAGE}
            yield pair | {"volumes": 1} | image


def _pair(subject: str, dataset: str, other: str) -> dict[str, Any]:
    empty = {"name": "", "volumes": 0, "how": "", "correlation": np.nan, "volume": "", "corpus_volume": ""}
    return {"subject": subject, "corpus_dataset": dataset, "corpus_subject": other} | empty


def _merged(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per pair of subjects: the name, the number of equal images, and the nearest of them."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in found:
        key = (pair["subject"], pair["corpus_dataset"], pair["corpus_subject"])
        kept = rows.setdefault(key, pair)
        if kept is pair:
            continue
        nearer = pair if not kept["volumes"] or pair["correlation"] > kept["correlation"] else kept
        image = {key: nearer[key] for key in IMAGE}
        kept |= image | {"name": kept["name"] or pair["name"], "volumes": kept["volumes"] + pair["volumes"]}
    return [rows[key] for key in sorted(rows)]


def check_protocol(shared: pd.DataFrame, pairs: pd.DataFrame, protocol: str) -> None:
    """Accepts a corpus of the protocol `amaes` as it is, and a `strict` one that shares nobody with a cohort.

    Raises:
        UserError: a strict corpus shares subjects; it names them, and what of the corpus they are.
    """
    rows = shared[shared["shared"] > 0]
    if protocol != "strict" or rows.empty:
        return
    lines = []
    for row in rows.itertuples():
        mine = pairs[(pairs["task"] == row.task) & (pairs["cohort"] == row.cohort) & (pairs["dataset"] == row.dataset)]
        lines.append(f"{row.shared} of {row.evaluated} subjects of task {row.task}, cohort {row.cohort} ({row.dataset}):")
        lines += [f"  {_told(pair)}" for pair in mine[:_LISTED].itertuples()]
        lines += [f"  and {len(mine) - _LISTED} more"] if len(mine) > _LISTED else []
    raise UserError(
        "subjects that will be scored are in the pretraining corpus:\n  " + "\n  ".join(lines),
        fix="choose other subsets, use 'pool_of', name them in 'exclude' of the source, or state 'protocol: amaes' in the corpus",
    )


def _told(pair: Any) -> str:
    """One pair of subjects in a line."""
    who = f"{pair.subject} is {pair.corpus_subject} of {pair.corpus_dataset}"
    if pair.name:
        return f"{who} ({'by name' if pair.name == 'same' else 'one patient under two names'})"
    words = {"exact": "equal voxels", "near": "the same image", "mirrored": "the same image, mirrored"}[pair.how]
    return f"{who} ({words}: {pair.volume} and {pair.corpus_volume}, correlation {pair.correlation:.3f})"


# ------------------------------------------------------------------------------------------------ composition

PARTS = ("subjects", "sessions", "volumes")
PUBLISHED = tuple(f"published_{part}" for part in PARTS)
MEDIANS = ("finest_mm", "coarsest_mm", "mean_intensity")
COMPOSITION_COLUMNS = ["dataset", "source", *PARTS, *PUBLISHED, "train", "val", "rejected", "sequences", *MEDIANS]


def composition(corpus: pd.DataFrame, tables: Mapping[str, pd.DataFrame], modules: Mapping[str, Dataset]) -> pd.DataFrame:
    """What a corpus is made of, by source, beside Table 1 of AMAES.

    Args:
        corpus: dataset, volume, subject, session, sequence, role.
        tables: by data set, its table of stored volumes with volume, status, native_spacing_mm and mean.
        modules: by data set, what is known of it.

    Returns:
        COMPOSITION_COLUMNS, a row per source in the order of their size and one for all. A subject counts once in a source
        and a session once in a subject. `rejected` are volumes of the whole data set. Spacing is that of the raw volumes
        (median of the finest and of the coarsest axis), intensity the median of the stored volumes' means (0..1).
    """
    facts = corpus.merge(_facts(tables), on=["dataset", "volume"], how="left", validate="one_to_one")
    names = sorted(facts["dataset"].unique(), key=lambda name: (-int((facts["dataset"] == name).sum()), name))
    rows = []
    for name in names:
        rejected = int((tables[name]["status"] == "rejected").sum())
        published = modules[name].brains45k or {}
        rows.append({"dataset": name, "source": _source(name, modules[name]), "rejected": rejected}
                    | _counted(facts[facts["dataset"] == name])
                    | {f"published_{part}": published.get(part, np.nan) for part in PARTS})  # fmt: skip
    total: dict[str, Any] = {"dataset": "all", "source": "all sources", "rejected": sum(row["rejected"] for row in rows)}
    summed = {part: sum(row[part] for row in rows) for part in PUBLISHED}
    frame = pd.DataFrame([*rows, total | _counted(facts) | summed], columns=COMPOSITION_COLUMNS)
    return frame.astype(dict.fromkeys(PUBLISHED, "Int64"))


def _source(name: str, dataset: Dataset) -> str:
    """A source in words; several data sets of the user's own may have one title, such as 'BIDS folder'."""
    return dataset.title if dataset.name == name else f"{name} ({dataset.title})"


def _facts(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Finest and coarsest spacing and mean intensity of every accepted volume."""
    stored = pd.concat([table[table["status"] == "ok"].assign(dataset=name) for name, table in tables.items()])
    spacing = stored["native_spacing_mm"].str.split().map(lambda words: [float(word) for word in words])
    return pd.DataFrame({"dataset": stored["dataset"], "volume": stored["volume"], "finest_mm": spacing.map(min),
                         "coarsest_mm": spacing.map(max), "mean_intensity": pd.to_numeric(stored["mean"])})  # fmt: skip


def _counted(rows: pd.DataFrame) -> dict[str, Any]:
    sequences = rows["sequence"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    medians = rows[list(MEDIANS)].median().round(4)
    return {
        "subjects": len(rows[["dataset", "subject"]].drop_duplicates()),
        "sessions": len(rows[["dataset", "subject", "session"]].drop_duplicates()),
        "volumes": len(rows),
        "train": int((rows["role"] == "train").sum()),
        "val": int((rows["role"] == "val").sum()),
        "sequences": ", ".join(f"{name} {number}" for name, number in sequences.items()),
    } | medians.to_dict()


def composition_grid(frame: pd.DataFrame, name: str) -> Grid:
    """Lays out what `composition` returned; the published counts stand below ours."""
    header = ["Source", "Sequences", "Subjects", "Sessions", "Volumes", "Spacing (mm)", "Mean intensity", "Rejected"]
    rows = []
    for row in frame.to_dict("records"):
        counts = [_beside(row[part], row[f"published_{part}"]) for part in PARTS]
        spacing = Cell(" – ".join(dict.fromkeys(f"{row[axis]:.3g}" for axis in ("finest_mm", "coarsest_mm"))))
        rows.append((Cell(row["source"]), Cell(row["sequences"]), *counts, spacing, Cell(f"{row['mean_intensity']:.3f}"),
                     Cell(f"{row['rejected']:,}")))  # fmt: skip
    last = frame.to_dict("records")[-1]
    notes = [f"{last['train']:,} volumes to train and {last['val']:,} to validate, split by subject.",
             "Spacing: medians over volumes of the finest and of the coarsest axis, as delivered.",
             "Mean intensity: median over stored volumes, 0 to 1. Rejected: of the whole data set."]  # fmt: skip
    if frame["published_volumes"].notna().any():
        notes.append("Published: what the source gives to BRAINS-45K (AMAES, Table 1).")
    title = f"What the corpus {name} is made of"
    return Grid(title, tuple(map(Cell, header)), tuple(rows), tuple(notes), stub=2, starts=frozenset([len(rows) - 1]))


def _beside(found: int, published: Any) -> Cell:
    return Cell(f"{found:,}", "" if pd.isna(published) else f"published {published:,}")


# ------------------------------------------------------------------------------------------------ licences

LICENCE_COLUMNS = ["name", "kind", "used_for", "access", "licence", "redistribution", "forbids", "licence_url", "citation"]
NO_COMMERCE = "commercial use"
NO_DERIVATIVES = "passing on anything derived, preprocessed volumes included"
NO_COPIES = "passing on volumes, preprocessed ones included"
SHARE_ALIKE = "passing on what is derived under another licence"
SIGNED = "use by anyone who has not registered or signed the agreement"
UNKNOWN = "not known: ask the authors before passing anything on"
_WORDS = {r"\bNC\b|non-?commercial": NO_COMMERCE, r"\bND\b": NO_DERIVATIVES, r"\bSA\b": SHARE_ALIKE}


def licences(datasets: Iterable[tuple[str, Dataset, list[str]]], releases: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Under which licences a study works.

    Args:
        datasets: name, what is known of it, and what the study uses it for.
        releases: encoders that others published: name, licence (None where it is not known), page, citation.

    Returns:
        LICENCE_COLUMNS, a row each. `forbids` is read off the licence's name and the module, separated by '; '.
    """
    rows: list[dict[str, Any]] = []
    for name, found, uses in datasets:
        known = {"name": name, "kind": "data", "used_for": "; ".join(uses), "access": found.access, "licence": found.licence}
        known |= {"licence_url": found.licence_url, "citation": found.citation}
        rows.append(known | {"redistribution": "yes" if found.redistribution else "no", "forbids": "; ".join(forbidden(found))})
    for release in releases:
        known = {"name": release["name"], "kind": "weights", "used_for": "initial encoder", "access": "place"}
        words = [what for pattern, what in _WORDS.items() if re.search(pattern, release["licence"] or "", re.IGNORECASE)]
        known |= {"licence": release["licence"] or "not known", "licence_url": release["page"], "citation": release["citation"]}
        rows.append(known | {"redistribution": "", "forbids": "; ".join(words) if release["licence"] else UNKNOWN})
    return pd.DataFrame(rows, columns=LICENCE_COLUMNS)


def forbidden(dataset: Dataset) -> list[str]:
    """What a data set's licence forbids, as far as its name, its access and its module tell."""
    if dataset.licence == UNSTATED:
        return [UNKNOWN]
    found = [what for pattern, what in _WORDS.items() if re.search(pattern, dataset.licence, re.IGNORECASE)]
    if not dataset.redistribution and NO_DERIVATIVES not in found:
        found.append(NO_COPIES)
    asked = dataset.access in ("credential", "place") and not dataset.licence.startswith("CC")
    return found + ([SIGNED] if asked else [])


# ------------------------------------------------------------------------------------------------ sites


def by_site(scores: pd.DataFrame, index: pd.DataFrame, trained: set[str]) -> pd.DataFrame:
    """Scores of a cohort three times: as they are, and apart for sites that training saw (`<cohort>_seen`) and did not see.

    Args:
        scores: rows with dataset-wide subject names and a cohort.
        index: of the data set that is scored, with subject and site.
        trained: the sites of the task's pool.

    Raises:
        UserError: the index does not tell the site of a subject that is scored.
    """
    sites = dict(zip(index["subject"], index["site"], strict=True))
    site = scores["subject"].map(sites).fillna("")
    if (site == "").any():
        nobody = sorted(scores.loc[site == "", "subject"].unique())
        raise UserError(f"no site is known of {', '.join(nobody[:_LISTED])}", fix="take 'by_site' out of the task's 'ood'")
    seen = site.isin(trained)
    apart = [scores[seen].assign(cohort=scores["cohort"] + "_seen"), scores[~seen].assign(cohort=scores["cohort"] + "_unseen")]
    return pd.concat([scores, *apart], ignore_index=True)


def overlap_by_site(overlap: pd.DataFrame) -> pd.DataFrame:
    """An audit that speaks for both parts of each cohort as well: it does not say which of them a shared subject is in."""
    parts = [overlap.assign(cohort=overlap["cohort"] + part) for part in ("_seen", "_unseen")]
    return pd.concat([overlap, *parts], ignore_index=True)
