"""This project's preprocessing as a party. Arguments: `work` (with raw/task/imagesTr/<volume>_000.nii.gz) and `recipe`."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from brainpretrain import resampling, shards, volumes
from harness import arguments, peak_memory, seconds, serve

GIVEN = arguments()
WORK, RECIPE = Path(GIVEN["work"]), GIVEN["recipe"]
RAW, OUT = WORK / "raw" / "task" / "imagesTr", WORK / "shard"
EMPTY = dict.fromkeys(shards.INDEX_COLUMNS, "")


def _store(volume: str) -> dict[str, Any]:
    """The table row of a shard of this volume, made from nothing."""
    shutil.rmtree(OUT, ignore_errors=True)
    row = EMPTY | {"volume": volume, "subject": volume, "path": f"{volume}_000.nii.gz"}
    table = shards.build([row], RAW, OUT, RECIPE, 0, 1)
    shards.check_rejected(table, 0)
    return table.to_dict("records")[0]


def store(volume: str) -> float:
    """Seconds from the file to the stored array. Resampling matrices are computed anew, as for a grid not seen before."""
    resampling.cubic_operator.cache_clear()
    return seconds(lambda: _store(volume))


def memory(volume: str) -> int | None:
    """Bytes that `store` needs beyond what the process has already."""
    return peak_memory(lambda: _store(volume))


def stored(volume: str) -> dict[str, Any]:
    """Size and shape of what is stored; the array is left in stored.npy."""
    row = _store(volume)
    array = shards.load(OUT, row)
    np.save(WORK / "stored.npy", array)
    return {"bytes": row["bytes"], "shape": array.shape}


def image(volume: str) -> list[tuple[int, int]]:
    """Leaves the float32 image, as it is before storing, in ours.npy and returns its box in RAS."""
    limits = volumes.Limits(RECIPE["max_voxels"], tuple(RECIPE["spacing_range_mm"]))
    array, _, geometry, _ = volumes.preprocess(volumes.read_volume(RAW / f"{volume}_000.nii.gz", limits=limits), None, RECIPE)
    np.save(WORK / "ours.npy", array)
    return list(geometry.box)


serve("brainpretrain", {"store": store, "memory": memory, "stored": stored, "image": image})
