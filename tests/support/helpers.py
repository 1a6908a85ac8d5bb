"""What several tests use by import."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def edit(path: Path, old: str, new: str) -> None:
    """Replaces text in a file, once and for certain."""
    text = path.read_text()
    assert old in text, f"'{old}' is not in {path}"
    path.write_text(text.replace(old, new, 1))
