"""Placeholders in profiles: values that only a site knows, which nobody has written yet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from brainpretrain.errors import UserError

_PLACEHOLDER = re.compile(
    r"<[^<>]+>|\b(your|my)[ _-][a-z]+\b|\bchange[ _-]?me\b|\b(todo|fixme|xxx+)\b|@example\.|^(account|partition)([ _-]name)?$",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Whether a value is one that profiles and their documentation have in place of a site's own."""
    return bool(_PLACEHOLDER.search(value))


def refuse_placeholders(resources: Iterable[tuple[str, str]], folders: Iterable[Path]) -> None:
    """Refuses resources of jobs that are placeholders.

    Args:
        resources: names and values.
        folders: where the profiles are, or their parents, to name the file and line of each.

    Raises:
        UserError: lists every placeholder.
    """
    found = sorted({(name, value) for name, value in resources if is_placeholder(value)})
    if found:
        raise UserError(
            "\n".join(f"{name}: '{value}' is a placeholder" for name, value in found),
            where=", ".join(_place(name, value, folders) for name, value in found),
            fix="write the value of your site there, or into config/local.yaml, which git leaves alone:\n"
            "         slurm: {account: ..., partition: ..., gpu_partition: ..., gpu_model: ...}\n"
            "       slurm/README.md says how to find them",
        )


def _place(name: str, value: str, folders: Iterable[Path]) -> str:
    """File and line of a resource in a profile."""
    setting = re.compile(rf"\s*-?\s*['\"]?{re.escape(name)}['\"]?\s*[:=]\s*['\"]?{re.escape(value)}")
    files = {path for folder in folders for part in ("config*.y*ml", "*/config*.y*ml") for path in folder.glob(part)}
    for file in sorted(files):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if setting.match(line):
                return f"{file}:{number}"
    return f"{name} of --default-resources or --set-resources"
