"""Converts volumes of other formats to NIfTI, so that the library needs only one reader of volumes.

SimpleITK reads NRRD, MetaImage and GIPL, and nibabel FreeSurfer's MGH and pairs of .hdr and .img (Analyze, NIfTI). What
SimpleITK 2.5 was seen to take in silence is refused here: a cut GIPL file, a wrong bit in a compressed MetaImage (both give
zeros or noise), surplus bytes, and an NRRD file that does not state where it is in the world.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.datasets.base import CONVERTED
from brainpretrain.errors import UserError, first_line
from brainpretrain.files import atomic

NRRD, META, GIPL, MGH = (".nrrd", ".nhdr"), (".mha", ".mhd"), (".gipl", ".gipl.gz"), (".mgz", ".mgh", ".mgh.gz")
PAIR = (".img",)
FORMATS = (*NRRD, *META, *GIPL, *MGH, *PAIR)
# Names of the spaces of NRRD in which right and left are known.
SPACES = ("right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps")
_MILLIMETRES = {"mm", "millimeter", "millimetre", ""}
_MAX_HEADER = 1 << 20  # bytes
_GIPL_HEADER = 256  # bytes
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def convert_tree(root: Path | str, out: Path | str = "", image: str = r".*", formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Converts the volumes below a folder, on the same paths; existing files are kept.

    Args:
        root: folder of the data set; hidden files are left out.
        out: folder for the converted files; by default the folder CONVERTED below `root`.
        image: regular expression for the relative paths of the files to convert.
        formats: endings of names to convert.

    Returns:
        The converted files.

    Raises:
        UserError: files cannot be read; the message lists all of them, and the others are converted.
    """
    root = Path(root)
    done, problems, sources = [], [], {}
    for source in sorted(_volumes(root, formats)):
        relative = source.relative_to(root)
        target = Path(out or root / CONVERTED) / relative.with_name(without_ending(relative.name) + ".nii.gz")
        if not re.fullmatch(image, relative.as_posix()):
            continue
        if (other := sources.setdefault(target, source)) is not source:
            problems.append(_refused(f"{other.name} would become a file of the same name", source))
            continue
        if target.exists():
            continue
        try:
            convert(source, target)
            done.append(target)
        except UserError as error:
            problems.append(error)
    if problems:
        lines = [f"{error.where}: {error.problem}" for error in problems]
        problem = f"{len(lines)} volumes cannot be converted:\n    " + "\n    ".join(lines)
        raise UserError(problem, where=root, fix=problems[0].fix)
    return done


def convert(source: Path | str, target: Path | str) -> None:
    """Writes a volume as `.nii.gz`, with the same voxels and the same position in the world.

    Where the format (GIPL, Analyze) or the file (MetaImage without a matrix) states no orientation, the NIfTI file has none.

    Raises:
        UserError: the file is damaged, is no single real 3-D volume, or does not state its position.
    """
    array, affine, oriented = _read(Path(source))
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    if not oriented:
        image.set_sform(affine, 0)
        image.set_qform(affine, 0)
    with atomic(target) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def read(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) and affine (4x4, to RAS in mm) of a volume that is not NIfTI.

    Raises:
        UserError: as `convert`.
    """
    return _read(Path(path))[:2]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    return (_read_mgh if _ends(path, MGH) else _read_pair if _ends(path, PAIR) else _read_itk)(path)


def without_ending(name: str) -> str:
    """The name of a file without the ending of its format."""
    return name[: -len(max((ending for ending in FORMATS if name.lower().endswith(ending)), key=len, default=""))]


def _volumes(root: Path, formats: tuple[str, ...]) -> Iterator[Path]:
    for path in root.rglob("*"):
        if _ends(path, formats) and not any(part.startswith(".") for part in path.relative_to(root).parts) and path.is_file():
            yield path


def _ends(path: Path, formats: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(formats)


def _refused(problem: str, path: Path) -> UserError:
    return UserError(problem, where=path, fix="convert it to NIfTI by other means, or download it again")


def _read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content  # to its checksum
        image = nib.MGHImage.from_bytes(content)
        array = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nib.spatialimages.HeaderDataError) as error:
        raise _refused(f"damaged, truncated, or no MGH file: {first_line(error)}", path) from error
    return _one_volume(array, path), image.affine, bool(image.header["goodRASFlag"] > 0)


def _one_volume(array: np.ndarray, path: Path) -> np.ndarray:
    """A 3-D array in the byte order of the machine; a fourth axis of length 1 is dropped."""
    array = array.reshape(array.shape[:3]) if array.ndim == 4 and array.shape[3] == 1 else array
    if array.ndim != 3:
        raise _refused(f"{array.ndim}-D {array.shape} where 3-D is needed", path)
    if array.dtype.kind not in "iuf":
        raise _refused(f"{array.dtype} voxels, where real values are needed", path)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="))


def _read_pair(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    header = path.with_suffix(".hdr")
    if not header.is_file():
        raise _refused(f"its header {header.name} is missing", path)
    kind = nib.Nifti1Pair if header.read_bytes()[344:348] == b"ni1\0" else nib.AnalyzeImage
    try:
        image = kind.from_filename(header)
        array = _one_volume(np.asarray(image.dataobj), path)
        offset, bits = int(image.header.get("vox_offset", 0)), int(image.header["bitpix"])
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        nib.spatialimages.HeaderDataError,
        nib.filebasedimages.ImageFileError,
    ) as error:
        raise _refused(f"damaged, truncated, or no pair of header and image: {first_line(error)}", path) from error
    if (found := path.stat().st_size) != offset + array.size * bits // 8:
        raise _refused(f"{found} bytes where the header says {offset + array.size * bits // 8}", path)
    oriented = kind is nib.Nifti1Pair and bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    return array, image.affine, oriented


def _read_itk(path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    import SimpleITK  # takes half a second

    fields = _header(path)
    oriented = not _ends(path, GIPL) and (_ends(path, NRRD) or bool({"transformmatrix", "orientation", "rotation"} & set(fields)))
    if _ends(path, NRRD):
        _check_position(fields, path)
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            problem = (
                f"{reader.GetSize()} with {reader.GetNumberOfComponents()} value(s) per voxel, where one 3-D volume is needed"
            )
            raise _refused(problem, path)
        image = reader.Execute()
        array = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    except RuntimeError as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise _refused(f"damaged, truncated, or not supported by SimpleITK: {reason}", path) from error
    if array.dtype.kind not in "iuf":
        raise _refused(f"{array.dtype} voxels, where real values are needed", path)
    content = _content(path, fields)
    if content is not None and content != array.nbytes:
        raise _refused(f"{content} bytes of voxels where the header says {array.nbytes}", path)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return array, _LPS_TO_RAS @ affine, oriented


def _check_position(fields: dict[str, Any], path: Path) -> None:
    """Refuses an NRRD file for which SimpleITK would make up the space, the axes, the origin or the unit."""
    space = fields.get("space", "(none)")
    vectors = re.findall(r"\(([^()]*)\)", f"{fields.get('space directions', '')} {fields.get('space origin', '')}")
    if space.lower() not in SPACES or len(vectors) != 4 or any("nan" in vector.lower() for vector in vectors):
        raise _refused(f"the position in the world is not stated (space: {space})", path)
    if units := set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - _MILLIMETRES:
        raise _refused(f"its unit is {', '.join(sorted(units))}, not mm", path)


# ------------------------------------------------------------------------------------------------ headers that are text


def _header(path: Path) -> dict[str, Any]:
    """The fields of a text header, with names in lower case, and `start`, the first byte after it; empty for GIPL.

    Raises:
        UserError: the file is not of the format of its name, or it is a pointer of git-annex or Git LFS.
    """
    with open(path, "rb") as stream:
        block = stream.read(_MAX_HEADER)
    if _ends(path, GIPL):
        return {}
    if _ends(path, NRRD):
        found, separator = re.match(rb"NRRD.*?(\r?\n\r?\n|\Z)", block, re.DOTALL), ":"
    else:
        found, separator = re.match(rb".*?^ElementDataFile\s*=[^\n]*(\n|\Z)", block, re.DOTALL | re.MULTILINE), "="
    if found is None:
        pointer = b"annex/objects" in block[:400] or b"git-lfs" in block[:100]
        advice = ": a pointer, not the volume itself; fetch it first (datalad get, git lfs pull)" if pointer else ""
        raise _refused(f"this is no {'NRRD' if _ends(path, NRRD) else 'MetaImage'} file{advice}", path)
    fields: dict[str, Any] = {"start": found.end()}
    for line in found.group().decode("utf-8", "replace").splitlines():
        name, mark, value = line.partition(separator)
        if mark and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return fields


def _content(path: Path, fields: dict[str, Any]) -> int | None:
    """Bytes of the voxels after decompression; None if they are text, begin with further bytes or are in several files.

    Raises:
        UserError: the compressed voxels are damaged.
    """
    try:
        if _ends(path, GIPL):
            return len(_inflated(path.read_bytes(), path.suffix == ".gz")) - _GIPL_HEADER
        if _ends(path, NRRD):
            packed = fields.get("encoding", "").lower() in ("gzip", "gz")
            plain = packed or fields.get("encoding", "").lower() == "raw"
            file = fields.get("data file", fields.get("datafile", ""))
            skipped = int(fields.get("byte skip", fields.get("byteskip", 0))) or int(
                fields.get("line skip", fields.get("lineskip", 0))
            )
        else:
            packed, file = fields.get("compresseddata", "").lower() == "true", fields["elementdatafile"]
            plain, file = fields.get("binarydata", "true").lower() == "true", "" if file.upper() == "LOCAL" else file
            skipped = int(fields.get("headersize", 0))
        if not plain or skipped or (file and not (path.parent / file).is_file()):
            return None
        content = (path.parent / file).read_bytes() if file else path.read_bytes()[fields["start"] :]
        return len(_inflated(content, packed))
    except (zlib.error, EOFError) as error:
        raise _refused(f"damaged or truncated: {error}", path) from error


def _inflated(content: bytes, packed: bool) -> bytes:
    """The content of a gzip or zlib stream, read to its checksum."""
    if not packed:
        return content
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either format
    inflated = stream.decompress(content)
    if not stream.eof:
        raise EOFError("the compressed voxels have no end")
    return inflated
