"""The licences of the data and the released weights that a study uses, and what they forbid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brainpretrain.datasets.base import Dataset
from brainpretrain.datasets.own.options import UNSTATED

LICENCE_COLUMNS = ["name", "kind", "used_for", "access", "licence", "redistribution", "forbids", "licence_url", "citation"]
NO_COMMERCE = "commercial use"
NO_DERIVATIVES = "passing on anything derived, preprocessed volumes included"
NO_COPIES = "passing on volumes, preprocessed ones included"
SHARE_ALIKE = "passing on what is derived under another licence"
SIGNED = "use by anyone who has not registered or signed the agreement"
UNKNOWN = "not known: ask the authors before passing anything on"
_WORDS = {r"\bNC\b|non-?commercial": NO_COMMERCE, r"\bND\b": NO_DERIVATIVES, r"\bSA\b": SHARE_ALIKE}


def licence_table(datasets: Iterable[tuple[str, Dataset, list[str]]], releases: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The licence of each data set and released encoder that a study uses, and what it forbids.

    Args:
        datasets: name, description and uses in the study, of each data set.
        releases: of each published encoder: name, licence (None if it is not known), page, citation.

    Returns:
        LICENCE_COLUMNS, a row for each. `forbids` follows from the licence's name and the data set's description; several
        restrictions are separated by '; '.
    """
    rows = [_dataset_row(name, dataset, uses) for name, dataset, uses in datasets]
    return pd.DataFrame([*rows, *map(_release_row, releases)], columns=LICENCE_COLUMNS)


def _dataset_row(name: str, dataset: Dataset, uses: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "data",
        "used_for": "; ".join(uses),
        "access": dataset.access,
        "licence": dataset.licence,
        "redistribution": "yes" if dataset.redistribution else "no",
        "forbids": "; ".join(forbidden(dataset)),
        "licence_url": dataset.licence_url,
        "citation": dataset.citation,
    }


def _release_row(release: Mapping[str, Any]) -> dict[str, Any]:
    licence = release["licence"]
    return {
        "name": release["name"],
        "kind": "weights",
        "used_for": "initial encoder",
        "access": "place",
        "licence": licence or "not known",
        "redistribution": "",
        "forbids": release_forbids(release),
        "licence_url": release["page"],
        "citation": release["citation"],
    }


def release_forbids(release: Mapping[str, Any]) -> str:
    """What the terms of a published encoder forbid: as its entry says, or by the name of its licence."""
    by_name = _forbidden_by_name(release["licence"]) if release["licence"] else [UNKNOWN]
    return "; ".join([*by_name, *filter(None, [release.get("forbids")])])


def forbidden(dataset: Dataset) -> list[str]:
    """What a data set's licence forbids, judged from its name and from the access and redistribution that the module states."""
    if dataset.licence == UNSTATED:
        return [UNKNOWN]
    restrictions = _forbidden_by_name(dataset.licence)
    if not dataset.redistribution and NO_DERIVATIVES not in restrictions:
        restrictions.append(NO_COPIES)
    registered = dataset.access in ("credential", "place") and not dataset.licence.startswith("CC")
    return restrictions + ([SIGNED] if registered else [])


def _forbidden_by_name(licence: str) -> list[str]:
    """The restrictions of a licence by the abbreviations in its name, such as NC."""
    return [restriction for pattern, restriction in _WORDS.items() if re.search(pattern, licence, re.IGNORECASE)]
