"""A folder for a hub: safetensors, JSON, and a model card with licences, citations and a snippet that runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain import datasets
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json
from brainpretrain.weights import cards

FILES = ("encoder.safetensors", "encoder.json")
SNIPPET = """import torch
from brainpretrain.weights import store

encoder, facts = store.encoder(".")  # this folder, or what huggingface_hub.snapshot_download returns
image = torch.zeros(1, facts["in_channels"], *[2 * encoder.divisor] * 3)  # b c x y z, prepared as below
features = encoder(image)  # finest first
print([list(level.shape) for level in features])
"""
# beginnings of licences as this project writes them: identifiers of the hub
_IDENTIFIERS = {"CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "CC BY-NC 4.0": "cc-by-nc-4.0", "CC0": "cc0-1.0",
                "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0", "CC BY-NC-ND 4.0": "cc-by-nc-nd-4.0", "Apache": "apache-2.0"}  # fmt: skip


def export_hub(folder: Path, out: Path) -> list[str]:
    """Writes the folder; what stands in the way of sharing it, in words.

    Args:
        folder: of encoder.safetensors and encoder.json, and of run.json if it was pretrained here.
        out: folder to write: the two files, and README.md.

    Raises:
        UserError: a file is missing or not readable.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"there is no {' and no '.join(missing)}", where=folder, fix="give the folder of an encoder")
    facts = read_json(folder / "encoder.json")
    for name in FILES:
        with atomic(out / name, needs=(folder / name).stat().st_size) as temporary:
            shutil.copyfile(folder / name, temporary)
    run = folder / "run.json"
    text = readme(facts, read_json(run) if run.exists() else None)
    with atomic(out / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return obstacles(facts)


def readme(facts: Mapping[str, Any], run: Mapping[str, Any] | None) -> str:
    """The model card with the header of the hub, a snippet and the citations."""
    names = [licence for _, licence, _ in _terms(facts)]
    same = {_identifier(name) for name in names}
    licence = same.pop() if len(same) == 1 else "other"
    header = ["---", f"license: {licence}", "library_name: brainpretrain", "pipeline_tag: image-feature-extraction",
              "tags: [medical, mri, brain, self-supervised-learning, safetensors]", "---"]  # fmt: skip
    use = (
        "## Use\n\nInstall `brainpretrain`, then, in this folder:\n\n"
        f"```python\n{SNIPPET}```\n\nFine-tuning refuses volumes that were prepared in another way than those of the pretraining."
    )
    closed = obstacles(facts)
    sharing = "## Sharing\n\n" + ("\n".join(f"- {line}" for line in closed) or "No term that is known stands in the way.")
    parts = ["\n".join(header), cards.card(facts, run).rstrip("\n"), use, _licences(facts), sharing, _citations(facts)]
    return "\n\n".join(parts) + "\n"


def obstacles(facts: Mapping[str, Any]) -> list[str]:
    """Why this encoder may perhaps not be passed on, a line for each term."""
    lines = [f"{name}: its licence is not known, ask the authors first" for name, licence, _ in _terms(facts) if not licence]
    for name in sorted(facts.get("datasets") or {}):
        if name in datasets.names() and not datasets.load(name).redistribution:
            lines.append(f"{name}: its terms do not allow to pass on the data ({datasets.load(name).licence}); read them first")
    if forbids := (facts.get("source") or {}).get("forbids"):
        lines.append(f"{facts['source'].get('release') or facts['name']}: its terms forbid {forbids}")
    return lines


def _terms(facts: Mapping[str, Any]) -> list[tuple[str, str | None, str]]:
    """Name, licence (None if it is not known) and citation of everything that the encoder was made of."""
    rows: list[tuple[str, str | None, str]] = []
    for name in sorted(facts.get("datasets") or {}):
        known = datasets.load(name) if name in datasets.names() else None
        rows.append((name, known.licence if known else None, known.citation if known else cards.UNKNOWN))
    source = facts.get("source") or {}
    if source or not rows:
        name = source.get("release") or source.get("file") or facts.get("name") or cards.UNKNOWN
        rows.append((name, source.get("licence"), source.get("citation") or cards.UNKNOWN))
    return rows


def _identifier(licence: str | None) -> str:
    """The hub's identifier of a licence, the longest beginning that fits; 'other' if there is none."""
    found = [name for name in _IDENTIFIERS if licence and licence.startswith(name)]
    return _IDENTIFIERS[max(found, key=len)] if found else "other"


def _licences(facts: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {licence or cards.UNKNOWN} |" for name, licence, _ in _terms(facts)]
    return "\n".join(["## Licences", "", "| made of | licence |", "|---|---|", *lines])


def _citations(facts: Mapping[str, Any]) -> str:
    lines = [f"- {name}: {' '.join(citation.split())}" for name, _, citation in _terms(facts)]
    return "\n".join(["## Citation", "", *lines, "- brainpretrain: see CITATION.cff of the software"])
