"""The model card of an encoder, in Markdown, from encoder.json and run.json. A missing fact is written as unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from brainpretrain import datasets, local_mean
from brainpretrain.files import atomic, read_json
from brainpretrain.words import duration

UNKNOWN = "unknown"


def card(facts: Mapping[str, Any], run: Mapping[str, Any] | None, warning: str = "") -> str:
    """Markdown text.

    Args:
        facts: encoder.json of a pretraining or of an import.
        run: run.json of the pretraining, or None.
        warning: what readers must know first.
    """
    red = [f'<span style="color: #b3261e">**{_plain(warning)}**</span>'] if warning else []
    parts = [f"# {facts['name']}", *red, _network(facts), _input(facts), _training(facts, run or {})]
    parts += [_release(facts["source"])] if facts.get("source") else []
    parts.append(_data(facts))
    return "\n\n".join(parts) + "\n"


def write_card(encoder: Path, path: Path) -> None:
    """Writes the model card of an encoder.

    Args:
        encoder: folder of encoder.json, and of run.json if it was pretrained here.
        path: Markdown file to write.

    Raises:
        UserError: there is no readable encoder.json.
    """
    run = encoder / "run.json"
    facts = read_json(encoder / "encoder.json")
    text = card(facts, read_json(run) if run.exists() else None, local_mean.warning(encoder / "log.csv", facts["name"]))
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _network(facts: Mapping[str, Any]) -> str:
    backbone = facts["backbone"]
    rows = {"architecture": backbone["architecture"], **backbone["options"], "parameters": facts.get("encoder_parameters")}
    return "Pretrained encoder for 3-D brain MRI: `encoder.safetensors` with `encoder.json`.\n\n" + _pairs("Network", rows)


def _input(facts: Mapping[str, Any]) -> str:
    size = facts.get("patch_size")
    rows = {"channels": facts["in_channels"], "patch in pretraining, voxels": " x ".join(map(str, size)) if size else None}
    recipe = facts.get("preprocess")
    steps = {key: value for key, value in recipe.items() if key != "revision"} if recipe else {"preprocessing": None}
    zscore = facts.get("intensity") == "zscore"
    seen = {"intensities": "z-scores of each prepared volume: mean 0, deviation 1" if zscore else "0 to 1, as prepared"}
    return _pairs("Input", {"orientation": "RAS" if recipe else None, **rows, **steps, **(seen if recipe else {})})


def _training(facts: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    recipe = run.get("config", {}).get("recipe", {})
    rows = {
        "pretext": recipe.get("method"),
        **recipe.get("options", {}),
        "steps": facts.get("steps"),
        "patches per step": recipe.get("global_batch"),
        "phases": recipe.get("phases"),
        "optimiser": recipe.get("optimizer"),
        "precision": recipe.get("precision"),
        "hardware": run.get("hardware"),
        "duration": duration(run["seconds"]) if "seconds" in run else None,
        "commit": facts.get("commit"),
        "versions": {key: run[key] for key in ("python", "torch", "lightning") if key in run} or None,
    }
    return _pairs("Pretraining", rows)


def _release(source: Mapping[str, Any]) -> str:
    left = ", ".join(f"{name} ({part['tensors']} tensors)" for name, part in source["left"].items())
    rows = {
        "file": source["file"],
        "bytes": source["bytes"],
        "SHA-256": source["sha256"],
        "not taken from it": left or "nothing",
        **{key: source.get(key) for key in ("release", "release_known_by", "page", "licence", "citation")},
        **({"its terms forbid": source["forbids"]} if source.get("forbids") else {}),
    }
    return _pairs("Imported from", rows)


def _data(facts: Mapping[str, Any]) -> str:
    """The data sets of the corpus with their terms; for an imported encoder, the words of its release."""
    described = (facts.get("source") or {}).get("corpus")
    counts = facts.get("datasets")
    if not counts:
        return f"## Data\n\n{described or UNKNOWN}"
    rows = [_dataset(name, count) for name, count in sorted(counts.items())]
    header = ["data set", "title", "subjects", "volumes", "licence", "redistribution", "citation"]
    text = f"## Data\n\nSHA-256 of `corpus.tsv`: {_plain(facts.get('corpus_sha256'))}\n\n{_table(header, rows)}"
    if closed := [name for name, row in zip(sorted(counts), rows, strict=True) if row[5] != "allowed"]:
        text += f"\n\nRead the terms of {', '.join(closed)} before you share this encoder."
    return text


def _dataset(name: str, count: Mapping[str, int]) -> list[Any]:
    if name not in datasets.names():  # an entry of a config, made with options
        return [name, UNKNOWN, count["subjects"], count["volumes"], UNKNOWN, UNKNOWN, UNKNOWN]
    dataset = datasets.load(name)
    licence = f"[{dataset.licence}]({dataset.licence_url})"
    sharing = "allowed" if dataset.redistribution else "not allowed"
    return [name, dataset.title, count["subjects"], count["volumes"], licence, sharing, dataset.citation]


def _pairs(title: str, rows: Mapping[str, Any]) -> str:
    return f"## {title}\n\n{_table(['', ''], [[key.replace('_', ' '), value] for key, value in rows.items()])}"


def _table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    cells = [header, *([_plain(cell).replace("|", "\\|") for cell in row] for row in rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def _plain(value: Any) -> str:
    """Text of a value; a nested one as `key value` pairs."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value)) if value and isinstance(value[0], Mapping) else ", ".join(map(_plain, value))
    return " ".join(str(value).split())
