"""The stored form of a volume: one compressed array per file, with a checksum that every read compares.

A file holds a contiguous blosc2 frame: the image as float16 in [0, 1], or a label map of unsigned integers. `load` and
`load_label` compare the whole file with the checksum in the shard's table before they return a voxel; docs/benchmarks.md has the
cost.
"""

from __future__ import annotations

import math
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import xxhash

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_tsv

SUFFIXES = (".b2nd", ".label.b2nd", ".json")  # image, label and record of a volume
CRC_DIGITS = 8  # length of the CRC-32 checksums that earlier versions stored; XXH3 has 16 digits
_BLOCK = 36  # approximate edge of a block in voxels; a block is the smallest part that a read decompresses
_PIECE = 1 << 18  # bytes read at a time to compute a checksum


def load(folder: Path | str, row: Mapping[str, Any], box: tuple[slice, ...] | None = None) -> np.ndarray:
    """Reads the image of one table row.

    Args:
        folder: the folder of the shard tables (`out_dir` of `shards.build`).
        row: a row of a shard table, or of a corpus.
        box: a slice per axis; without it the whole volume is returned.

    Returns:
        float16 (x, y, z) in [0, 1].

    Raises:
        UserError: the file is missing, or its checksum differs from `row["checksum"]`; the message names the command that
            repairs it.
    """
    return _load(Path(folder) / row["file"], row["checksum"], row, box)


def load_label(folder: Path | str, row: Mapping[str, Any], box: tuple[slice, ...] | None = None) -> np.ndarray:
    """Reads the label map of one table row; for the arguments see `load`.

    Returns:
        Unsigned integers (x, y, z) with the values of the source file.

    Raises:
        UserError: the row has no label, its file is missing, or its checksum differs from `row["label_checksum"]`.
    """
    if not row["label_file"]:
        raise UserError(f"{row['volume']} has no label", where=row["path"], fix="choose labelled volumes")
    return _load(Path(folder) / row["label_file"], row["label_checksum"], row, box)


def files_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(file, checksum) of each stored file of a table row or record, relative to `folder`; empty for a rejected volume."""
    pairs = ((row["file"], row["checksum"]), (row["label_file"], row["label_checksum"]))
    return [(name, checksum) for name, checksum in pairs if name]


def fault_of(path: Path, checksum: str) -> str:
    """Describes the fault of a stored file: 'missing', 'damaged: ...', or '' if its checksum is the given one."""
    try:
        return _fault(_same_kind(checksum, _pieces(path)), checksum)
    except FileNotFoundError:
        return "missing"


def compress(array: np.ndarray) -> bytes:
    """The content of the file that stores `array`. Equal arrays give equal bytes."""
    # Bytes suit halves: their upper bytes compress well by themselves, and the file is a seventh smaller. Bits suit label maps.
    shuffle = blosc2.Filter.SHUFFLE if array.dtype.kind == "f" else blosc2.Filter.BITSHUFFLE
    compression = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=2, filters=[shuffle], typesize=array.itemsize, nthreads=1)
    # Blocks share an axis evenly, since a remainder would be stored, and decompressed, as a whole block.
    blocks = tuple(math.ceil(n / max(1, round(n / _BLOCK))) for n in array.shape)
    chunks = tuple(min(2 * block, n) for block, n in zip(blocks, array.shape, strict=True))
    contiguous: Any = np.ascontiguousarray(array)
    return blosc2.asarray(contiguous, contiguous=True, chunks=chunks, blocks=blocks, cparams=compression).to_cframe()


def write(path: Path, frame: bytes) -> None:
    """Writes a stored file under a temporary name, reads it back, compares the checksums and renames it.

    Raises:
        UserError: the file reads back differently.
    """
    with atomic(path, needs=len(frame)) as temporary:
        temporary.write_bytes(frame)
        if fault_of(temporary, checksum_of(frame)):
            raise UserError("the file reads back differently", where=path, fix="check the disk, then run the step again")


def checksum_of(frame: bytes) -> str:
    """The XXH3 checksum (64 bits) of the content of a file, as 16 hex digits."""
    return xxhash.xxh3_64_hexdigest(frame)


def _same_kind(checksum: str, pieces: Iterable[bytes | memoryview]) -> str:
    """The checksum of `pieces`, computed by the algorithm that produced `checksum` (CRC-32 in earlier versions)."""
    if len(checksum) == CRC_DIGITS:
        return f"{reduce(lambda crc, piece: zlib.crc32(piece, crc), pieces, 0):08x}"
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[memoryview]:
    """The content of a file in pieces that share one buffer: a piece is valid until the next one is read."""
    buffer = memoryview(bytearray(_PIECE))
    with open(path, "rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            yield buffer[:size]


def _fault(actual: str, stored: str) -> str:
    return "" if actual == stored else f"damaged: its checksum is {actual}, and {stored} was stored"


def _load(path: Path, checksum: str, row: Mapping[str, Any], box: tuple[slice, ...] | None) -> np.ndarray:
    """Decompresses the same bytes that were compared, so that the file cannot change in between."""
    try:
        frame = path.read_bytes()
    except FileNotFoundError as error:
        raise _damaged("missing", path, row) from error
    if fault := _fault(_same_kind(checksum, [frame]), checksum):
        raise _damaged(fault, path, row)
    array: Any = blosc2.ndarray_from_cframe(frame)
    array.schunk.dparams = blosc2.DParams(nthreads=1)
    return array[:] if box is None else array[box]


def _damaged(fault: str, path: Path, row: Mapping[str, Any]) -> UserError:
    """The error for a damaged file. It names the shard, the stored volume, and the raw file that the volume was made from."""
    folder = path.parent.parent
    shard, source = _origin(folder, row, "label" if path.name.endswith(SUFFIXES[1]) else "path")
    return UserError(
        f"the stored volume {row['volume']}{shard}, made from {source}, is {fault}",
        where=path,
        fix=f"brainpretrain repair {shlex.quote(str(folder))}   (restores this volume and nothing else; then run this again)",
    )


def _origin(folder: Path, row: Mapping[str, Any], column: str) -> tuple[str, str]:
    """' of shard <number>' and the raw file in `column`, from the shard tables: the rows of a corpus name no raw file."""
    for path in sorted(folder.glob("shard*.tsv")):
        try:
            table = read_tsv(path)
            (source,) = table.loc[table["volume"] == row["volume"], column]
        except (UserError, KeyError, ValueError):  # the volume is in another shard, or this table is damaged as well
            continue
        return f" of shard {path.stem.removeprefix('shard')}", source
    return "", row.get(column, "an unknown file")
