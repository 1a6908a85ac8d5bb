"""Converts NRRD files to NIfTI, so that the library needs only one reader of volumes.

It supports the form in which medical data sets are released: three dimensions, one file, raw or gzip encoding. Any other form is
refused.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from brainpretrain.datasets.base import CONVERTED
from brainpretrain.errors import UserError
from brainpretrain.files import atomic

# The format has several names for each type.
TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
# Factors that turn the axes of a space to right, anterior, superior.
SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_MAX_HEADER = 1 << 20  # bytes


def convert_tree(root: Path | str, image: str = r".*") -> int:
    """Converts the NRRD files below `root` into the folder CONVERTED, on the same paths; existing files are kept.

    Args:
        root: folder of the data set.
        image: regular expression for the relative paths of the files to convert.

    Returns:
        The number of converted files.

    Raises:
        UserError: a file cannot be read.
    """
    waiting = unconverted(root, image)
    for path, target in waiting:
        convert(path, target)
    return len(waiting)


def unconverted(root: Path | str, image: str = r".*") -> list[tuple[Path, Path]]:
    """The NRRD files that `convert_tree` would convert, each with the file to write."""
    root, waiting = Path(root), []
    for path in sorted(root.rglob("*.nrrd")):
        relative = path.relative_to(root)
        target = root / CONVERTED / relative.with_suffix(".nii.gz")
        if re.fullmatch(image, relative.as_posix()) and not target.exists():
            waiting.append((path, target))
    return waiting


def convert(source: Path | str, target: Path | str) -> None:
    """Writes the volume of an NRRD file as `.nii.gz`, with the same voxels and the same position in the world.

    Raises:
        UserError: the file is not NRRD, is truncated, or has an unsupported form.
    """
    fields, content = _split(Path(source))
    array = _voxels(fields, content, Path(source))
    image = nib.Nifti1Image(array, _affine(fields, Path(source)))
    with atomic(target) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _refused(problem: str, path: Path) -> UserError:
    return UserError(problem, where=path, fix="convert it to NIfTI by other means, or download it again")


def _split(path: Path) -> tuple[dict[str, str], bytes]:
    """The fields of the header, with names in lower case, and the bytes after it."""
    content = path.read_bytes()
    end = re.search(rb"\r?\n\r?\n", content[:_MAX_HEADER])
    if not content.startswith(b"NRRD") or end is None:
        raise _refused("this is no NRRD file", path)
    fields = {}
    for line in content[: end.start()].decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return fields, content[end.end() :]


def _voxels(fields: dict[str, str], content: bytes, path: Path) -> np.ndarray:
    dtype = next((name for name, names in TYPES.items() if fields.get("type", "").lower() in names), None)
    shape = [int(n) for n in fields.get("sizes", "").split() if n.isdigit()]
    encoding = fields.get("encoding", "").lower()
    if dtype is None or len(shape) != 3 or encoding not in ("raw", "gzip", "gz") or {"data file", "datafile"} & set(fields):
        stated = ", ".join(f"{name}: {fields.get(name, '(none)')}" for name in ("type", "sizes", "encoding"))
        raise _refused(f"this form of NRRD is not supported ({stated})", path)
    if encoding != "raw":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _refused(f"damaged or truncated: {error}", path) from error
    order = ">" if fields.get("endian", "little") == "big" else "<"
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(content) != expected:
        raise _refused(f"{len(content)} bytes of voxels where the header says {expected}", path)
    return np.frombuffer(content, np.dtype(dtype).newbyteorder(order)).reshape(shape, order="F").astype(dtype)


def _affine(fields: dict[str, str], path: Path) -> np.ndarray:
    """4x4 affine from voxels to world coordinates in mm, with the axes right, anterior, superior."""
    signs = SPACES.get(fields.get("space", "").lower())
    directions = _vectors(fields.get("space directions", ""))
    origin = _vectors(fields.get("space origin", ""))
    if signs is None or len(directions) != 3 or len(origin) != 1:
        raise _refused(f"the position in the world is not stated (space: {fields.get('space', '(none)')})", path)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.array(directions).T, origin[0]
    return np.diag([*signs, 1.0]) @ affine


def _vectors(text: str) -> list[list[float]]:
    """The vectors of a field such as `(1,0,0) (0,1,0)`; empty if one of them does not have three numbers."""
    vectors = [[float(number) for number in group.split(",")] for group in re.findall(r"\(([^()]*)\)", text)]
    return vectors if all(len(vector) == 3 for vector in vectors) else []
