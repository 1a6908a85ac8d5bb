"""Converts DICOM series to NIfTI with the program dcm2niix; the files go below `<root>/nifti`, on the path of the series."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import CONVERTED
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, sync_tree, write_json, write_tsv

TABLE = "dicom.tsv"  # in CONVERTED: the outcome of every series
MARKER = ".dicom.json"  # in the folder of a converted series: its source and its files
NAME = "%s_%d"  # file names of dcm2niix: number and description of the series
SUFFIXES = (
    "",
    ".dcm",
    ".ima",
    ".dicom",
)  # of files whose content is checked; a suffix of digits is checked too (names that are identifiers)


def convert(root: Path) -> list[dict[str, Any]]:
    """Converts every series below `root` that has not been converted yet.

    A folder of DICOM files becomes a folder with the same path below `<root>/nifti`, with `<number>_<description>.nii.gz` and a
    sidecar `.json` for each volume. dcm2niix omits names and dates of patients from the sidecar.

    Returns:
        A row per series, also in `<root>/nifti/dicom.tsv`: `series`, `status` ('converted' or 'failed'), `volumes` (file names
        joined by blanks), and `message` (the reason of a failure, or warnings).

    Raises:
        UserError: dcm2niix is not installed, or no series could be converted.
    """
    folders = series(root)
    if not folders:
        return []
    target, program = root / CONVERTED, find_program(root)
    for leftover in target.glob(".making-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    rows = []
    for folder in folders:
        relative = folder.relative_to(root)
        rows.append({"series": relative.as_posix()} | _convert(program, folder, target, target / relative))
        if len(rows) * 10 // len(folders) > (len(rows) - 1) * 10 // len(folders):
            print(f"DICOM: {len(rows)}/{len(folders)} series", flush=True)
    write_tsv(target / TABLE, rows)
    failed = [row for row in rows if row["status"] == "failed"]
    for row in failed:
        print(f"not converted: {row['series']}: {row['message']}", flush=True)
    if len(failed) == len(rows):
        problem = f"none of {len(rows)} DICOM series could be converted; the first: {failed[0]['message']}"
        raise UserError(
            problem,
            where=root / failed[0]["series"],
            fix=f"get these series again (all of them are in {target / TABLE}), or remove their folders",
        )
    return rows


def series(root: Path) -> list[Path]:
    """Folders below `root` that hold DICOM files, recognised by the letters DICM at byte 128."""
    folders = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if Path(folder) == root and CONVERTED in subfolders:
            subfolders.remove(CONVERTED)
        if any(_is_dicom(Path(folder) / name) for name in sorted(names)):
            folders.append(Path(folder))
    return folders


def _is_dicom(path: Path) -> bool:
    if path.name.startswith(".") or not (path.suffix.lower() in SUFFIXES or path.suffix[1:].isdigit()):
        return False
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def find_program(root: Path) -> str:
    """Path of dcm2niix: from its Python package, else from PATH.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("dcm2niix"):
        return importlib.import_module("dcm2niix").bin
    if program := shutil.which("dcm2niix"):
        return program
    raise UserError(
        "there are DICOM series, and no dcm2niix to convert them",
        where=root,
        fix="pip install dcm2niix, or install the program dcm2niix",
    )


def _convert(program: str, folder: Path, target: Path, place: Path) -> dict[str, str]:
    """Status, volumes and message of one series; a series with unchanged sources is not converted again."""
    files = [path for path in folder.iterdir() if path.is_file()]
    source = {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    marker = read_json(place / MARKER) if (place / MARKER).exists() else {}
    if marker.get("source") == source:
        return marker["result"]
    for name in marker.get("made", []):
        (place / name).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target) as making:
        result = _run(program, folder, Path(making))
        if result["status"] == "failed":
            return result
        sync_tree(Path(making))
        names = sorted(os.listdir(making))
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(Path(making) / name, place / name)
    write_json(place / MARKER, {"source": source, "made": names, "result": result})
    return result


def _run(program: str, folder: Path, making: Path) -> dict[str, str]:
    """Runs dcm2niix on the files of `folder`, without its subfolders. Any error counts as a failure."""
    line = [program, "-b", "y", "-ba", "y", "-z", "i", "-d", "0", "-f", NAME, "-o", str(making), str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    volumes = sorted(path.name for path in making.glob("*.nii.gz"))
    if done.returncode or not volumes:
        errors = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["no output"]
        message = f"dcm2niix ended with {done.returncode}: {' / '.join(errors)[:500]}"
        return {"status": "failed", "volumes": "", "message": message}
    warnings = list(dict.fromkeys(line for line in lines if line.startswith("Warning")))
    return {"status": "converted", "volumes": " ".join(volumes), "message": " / ".join(warnings)[:500]}
