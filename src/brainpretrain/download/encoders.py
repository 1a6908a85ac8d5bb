"""Files of published encoders: which are at hand, and how the others get there, from a mirror folder or from their address."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import Archive
from brainpretrain.download.hosts import HUGGING_FACE
from brainpretrain.download.http import differs, digests, download_file, shown
from brainpretrain.errors import UserError
from brainpretrain.files import atomic


def at_hand(file: Mapping[str, Any], root: Path) -> bool:
    """True if the file of a release and those beside it are in place. Their checksums are compared when they are imported."""
    path = root / file["file"]
    return path.is_file() and all(path.with_name(name).is_file() for name in file.get("beside", ()))


def get(file: Mapping[str, Any], root: Path, mirror: Path | None = None) -> Iterator[str]:
    """Puts the file of a release, and those beside it, in place; a line for each, which says where it came from.

    Args:
        file: `file` below `root`, `url`, and size and checksums on record, as an entry of `weights` has them; `beside`.
        root: folder of weights.
        mirror: folder that is searched first, by checksum, or without one on record by name and folder.

    Raises:
        UserError: a file in place is not the one on record, or as `download_file`.
    """
    path = root / file["file"]
    wanted = Archive(path.name, file["url"], file.get("bytes"), file.get("sha256"), file.get("md5"))
    yield _get_one(path, wanted, mirror)
    for name in file.get("beside", ()):
        yield _get_one(path.with_name(name), Archive(name, f"{file['url'].rpartition('/')[0]}/{name}"), mirror)


def _get_one(path: Path, wanted: Archive, mirror: Path | None) -> str:
    if path.is_file():
        if difference := differs(digests(path), wanted):
            raise UserError(f"not the file on record: {difference}", where=path, fix="move it away, and call this again")
        return f"{path}: in place"
    for candidate in _candidates(path, wanted, mirror) if mirror else ():
        with atomic(path, needs=candidate.stat().st_size) as temporary:
            shutil.copyfile(candidate, temporary)
        return f"{path}: from {candidate}"
    token, endpoint = os.environ.get("HF_TOKEN"), os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    on_hub = wanted.url.startswith(f"{HUGGING_FACE}/")
    url = endpoint + wanted.url.removeprefix(HUGGING_FACE) if on_hub else wanted.url
    download_file(url, path, wanted, {"Authorization": f"Bearer {token}"} if on_hub and token else {})
    return f"{path}: from {shown(url)}"


def _candidates(path: Path, wanted: Archive, mirror: Path) -> Iterator[Path]:
    """Files of a mirror that are the wanted one: by checksum under any name, else by the name of file and folder."""
    known = bool(wanted.sha256 or wanted.md5)
    for other in sorted(mirror.rglob("*")):
        if not other.is_file() or (wanted.size and other.stat().st_size != wanted.size):
            continue
        named = other.name == path.name and path.parent.name in str(other.parent)
        if (known and other.suffix == path.suffix and not differs(digests(other), wanted)) or (not known and named):
            yield other


def rows(releases: Mapping[str, Mapping[str, Any]], root: Path, forbids: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each file of each release.

    Args:
        releases: entries of `weights`, by name.
        root: folder of weights.
        forbids: what the terms of each release forbid.
    """
    return [
        {
            "encoder": name,
            "network": backbone,
            "at_hand": at_hand(file, root),
            "licence": release["licence"] or "not known",
            "forbids": forbids[name],
            "preprocess": release["preprocess"],
            "intensity": release.get("intensity", "unit"),
            "patch_size": release["patch_size"],
            "sequences": release.get("sequences", []),
            "corpus": release["corpus"],
            "citation": release["citation"],
            "page": release["page"],
            "repository": file.get("repository"),
            "file": str(root / file["file"]),
            "sha256": file.get("sha256"),
        }
        for name, release in releases.items()
        for backbone, file in release["files"].items()
    ]


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table of Markdown, without what depends on a machine."""
    header = ["encoder", "network", "licence", "it forbids", "preprocessing", "patch", "pretrained on"]
    lines = [header, ["---"] * len(header)]
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for row in table:
        seen.setdefault(row["encoder"], []).append(row)
    for name, of_release in seen.items():
        first = of_release[0]
        networks = ", ".join(f"`{row['network']}`" for row in of_release)
        scaled = "z-scores" if first["intensity"] == "zscore" else "0 to 1"
        patch = first["patch_size"][0]
        prepared = f"`{first['preprocess']}`, {scaled}"
        terms = first["forbids"] or "nothing"
        lines.append([f"`{name}`", networks, first["licence"], terms, prepared, f"{patch}^3", first["corpus"]])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
