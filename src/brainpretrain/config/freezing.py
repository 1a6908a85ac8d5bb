"""The config files that a job was submitted with, kept so that an edit while it waits in a queue does not change it.

A job of a batch system parses the workflow again on its node, days later perhaps. Snakemake stores the params of the submitting
process with its result. So a job that read the files as they are then would leave a result of other settings than on record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain.config import study_path
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, dump_json, read_mapping

KEPT = Path(".snakemake/brainpretrain")
SETTINGS = "settings.json"


def files_of(folder: Path, study: str, overrides: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that `config.load` reads for a study, by their place in a config folder, and the settings of the command line."""
    path = study_path(folder, study)
    files = {name.name: name.read_bytes() for name in sorted(folder.glob("*.yaml"))}
    return files | {f"studies/{path.name}": path.read_bytes(), SETTINGS: dump_json(dict(overrides)).encode()}


def key_of(files: Mapping[str, bytes]) -> str:
    """A name for the content of config files."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"config-{digest.hexdigest()[:16]}"  # letters first: Snakemake takes digits on its command line for a number


def keep(files: Mapping[str, bytes]) -> None:
    """Writes config files into a folder of KEPT that has their key as its name."""
    folder = KEPT / key_of(files)
    for name, content in files.items():
        if not (folder / name).exists():
            with atomic(folder / name) as temporary:
                temporary.write_bytes(content)


def kept(key: str) -> tuple[Path, dict[str, Any]]:
    """The config folder with the files of a key, and the settings of the command line, with the study that is in the folder.

    Raises:
        UserError: the job was submitted without a key, or the files are missing or are others.
    """
    folder, fix = KEPT / key, "give the same snakemake command again: it submits the job with the settings of now"
    if not key:
        raise UserError("this job does not say which settings it was submitted with", where=Path.cwd(), fix=fix)
    studies = sorted((folder / "studies").glob("*"))
    if len(studies) != 1:
        raise UserError("the settings that this job was submitted with are gone", where=folder.absolute(), fix=fix)
    settings = read_mapping(folder / SETTINGS)
    if key_of(files_of(folder, str(studies[0]), settings)) != key:
        raise UserError("the settings that this job was submitted with were changed", where=folder.absolute(), fix=fix)
    return folder, {**settings, "study": str(studies[0])}
