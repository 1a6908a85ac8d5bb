"""The page of one training, from its run.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from brainpretrain.report.pages.html import MISSING, render
from brainpretrain.words import duration

SECTIONS = {
    "Run": ["kind", "name", "commit", "started", "finished", "seconds", "resumed_from", "attempts", "redone_steps"],
    "Data": ["corpus", "volumes", "val_volumes", "subjects", "cases", "n_train", "fold", "label_values_as_background"],
    "Training": ["parameters", "encoder_parameters", "steps", "planned_steps", "patches_per_s", "data_wait", "peak_memory_gb"],
    "Validation": ["validation", "validation_seconds"],
    "Hardware": ["hardware", "devices", "precision", "threads"],
    "Versions": ["python", "torch", "lightning"],
}
SHOWN = {  # key -> name and value for a reader; other keys are shown as they are
    "seconds": ("duration", duration),
    "validation_seconds": ("duration of all validations", duration),
    "data_wait": ("time waiting for data", lambda share: f"{100 * share:.1f} %"),
    "peak_memory_gb": ("peak memory", lambda gb: f"{gb:.2f} GB"),
    "patches_per_s": ("patches per second", lambda rate: f"{rate:.2f}"),
}
COUNTS = ("parameters", "encoder_parameters", "steps", "volumes", "subjects")


def page(run: Mapping[str, Any], warning: str = "") -> str:
    """The run card of a training.

    Args:
        run: the content of run.json; keys that `SECTIONS` does not name are listed under 'More'.
        warning: what readers must know first; shown in red.
    """
    listed = {key for keys in SECTIONS.values() for key in keys} | {"config"}
    sections = {**SECTIONS, "More": sorted(set(run) - listed)}
    facts = {title: [fact for key in keys if key in run for fact in _facts(key, run[key])] for title, keys in sections.items()}
    return render(
        "run",
        title=f"{str(run.get('kind', 'training')).capitalize()}: {run.get('name', 'unnamed')}",
        warning=warning,
        sections={title: pairs for title, pairs in facts.items() if pairs},
        config=_flat(run["config"]) if run.get("config") else None,
    )


def _facts(key: str, value: Any) -> list[tuple[str, str]]:
    """An entry of run.json as name and value for a reader; a nested entry gives a pair for each leaf."""
    if isinstance(value, Mapping):
        return _flat(value, prefix=key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key in SHOWN:
            name, shown = SHOWN[key]
            return [(name, shown(value))]
        if key in COUNTS:
            return [(key.replace("_", " "), f"{value:,}")]
    return [(key.replace("_", " "), _plain(value))]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as dotted keys, in its order."""
    pairs: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        pairs += _flat(item, name) if isinstance(item, Mapping) and item else [(name, _plain(item))]
    return pairs


def _plain(value: Any) -> str:
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
