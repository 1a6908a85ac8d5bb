"""This project's preprocessing as a party. Arguments: `work` (with raw/task/imagesTr/<volume>_000.nii.gz), `recipe`, `patch`."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.preprocess import frames, nifti, rejections, resampling, shards, volumes
from harness import arguments, patch_box, peak_memory, seconds, serve

GIVEN = arguments()
WORK, RECIPE = Path(GIVEN["work"]), GIVEN["recipe"]
RAW, OUT = WORK / "raw" / "task" / "imagesTr", WORK / "shard"
KEPT = WORK / "kept"  # stored volumes to read patches from
TABLES: dict[str, Any] = {}  # their rows
PATCH = [GIVEN["patch"]] * 3
TAPS = 4  # of a cubic spline along one axis
EMPTY = dict.fromkeys(shards.INDEX_COLUMNS, "")


def _store(names: list[str]) -> pd.DataFrame:
    """The table of a new shard of these volumes."""
    shutil.rmtree(OUT, ignore_errors=True)
    rows = [EMPTY | {"volume": volume, "subject": volume, "path": f"{volume}_000.nii.gz"} for volume in names]
    return shards.build(rows, RAW, OUT, RECIPE, 0, 1)


def store(names: list[str]) -> float:
    """Seconds per volume from files to stored arrays. Resampling matrices are computed again, as for new grids."""
    resampling.cubic_operator.cache_clear()
    return seconds(lambda: _store(names)) / len(names)


def memory(names: list[str]) -> int | None:
    """Bytes that `store` needs in addition to those of the process."""
    return peak_memory(lambda: _store(names))


def stored(names: list[str]) -> dict[str, Any]:
    """Bytes per stored volume, and the shape of the first, whose array is written to stored.npy."""
    table = _store(names)
    rejections.check_rejected(table, 0)
    TABLES.update({row["volume"]: row for row in table.to_dict("records")})
    array = frames.load(OUT, TABLES[names[0]])
    np.save(WORK / "stored.npy", array)
    KEPT.mkdir(exist_ok=True)
    for row in table.to_dict("records"):  # the next volume gets a new shard
        target = KEPT / row["file"]
        target.parent.mkdir(exist_ok=True)
        shutil.copy(OUT / row["file"], target)
    return {"bytes": float(table["bytes"].mean()), "shape": array.shape}


def read(volume: str, first: int, count: int) -> list[float]:
    """Seconds of reading a random patch, as the loader does."""
    row = TABLES[volume]
    shape = [int(n) for n in row["shape"].split()]
    boxes = [patch_box(number, shape, PATCH) for number in range(first, first + count)]
    return [seconds(lambda box=box: frames.load(KEPT, row, box)) for box in boxes]


def least(names: list[str]) -> dict[str, float]:
    """The least work per volume: bytes that are read and written, and operations of the products that resample."""
    found = {"bytes": 0.0, "operations": 0.0}
    for volume in names:
        path = RAW / f"{volume}_000.nii.gz"
        native = nifti.read_volume(path)
        _, _, geometry, _ = volumes.preprocess(native, None, RECIPE)
        shape = list(geometry.box_shape)
        stored_bytes = TABLES[volume]["bytes"]
        found["bytes"] += path.stat().st_size + native.array.nbytes + 4 * math.prod(geometry.stored_shape) + stored_bytes
        for axis in sorted(range(3), key=lambda a: geometry.stored_shape[a] / geometry.box_shape[a]):
            n_in, n_out = shape[axis], geometry.stored_shape[axis]
            shape[axis] = n_out
            found["operations"] += 2 * TAPS * math.prod(shape) if n_in != n_out else 0
    return {key: value / len(names) for key, value in found.items()}


def image(volume: str) -> list[tuple[int, int]]:
    """Writes the float32 image, as it is before storing, to ours.npy and returns its box in RAS."""
    native = nifti.read_volume(RAW / f"{volume}_000.nii.gz")
    array, _, geometry, _ = volumes.preprocess(native, None, RECIPE)
    np.save(WORK / "ours.npy", array)
    return list(geometry.box)


TASKS = {"store": store, "memory": memory, "stored": stored, "read": read, "least": least, "image": image}
serve("brainpretrain", TASKS)
