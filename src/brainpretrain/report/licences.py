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
