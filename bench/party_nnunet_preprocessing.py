"""nnU-Net's preprocessing of an image as a party, stored in its own way, or in that of nnssl.

Arguments: `work` (with raw/task/imagesTr/<volume>_000.nii.gz), `recipe`, `patch`, `stored_as` ('nnunet' or 'nnssl').
nnU-Net's own functions in the order of both projects: read, crop to the box of what is not 0 (holes filled), z-score,
resample, store as float32. There is no segmentation to resample and store, which spares both work. nnssl is in no package
index: its part is nnU-Net's functions, from which its own are derived, with what nnssl stores (`NNSSL`).
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import SimpleITK
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

from harness import arguments, patch_box, peak_memory, seconds, serve

torch.set_num_threads(1)
SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
blosc2.set_nthreads(1)
GIVEN = arguments()
WORK, KIND = Path(GIVEN["work"]), GIVEN["stored_as"]
SPACING, PATCH = GIVEN["recipe"]["spacing_mm"], [GIVEN["patch"]] * 3
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}  # the default plan of both projects
# results of its rules for patches of 128 and of 160 voxels: blocks in a level 1 cache, chunks in a share of the last level
NNSSL = {"codec": blosc2.Codec.ZSTD, "clevel": 8, "blocks": (1, 16, 16, 16), "chunks": (1, 80, 64, 64)}
OUT = WORK / KIND
OUT.mkdir()


def _store(volume: str) -> None:
    data, properties = SimpleITKIO().read_images([str(WORK / "raw" / "task" / "imagesTr" / f"{volume}_000.nii.gz")])
    data, seg, _ = crop_to_nonzero(data.astype(np.float32))
    shape = compute_new_shape(data.shape[1:], properties["spacing"], SPACING)
    data[0] = ZScoreNormalization(False, {}).run(data[0], seg[0])
    data = resample_data_or_seg_to_shape(data, shape, properties["spacing"], SPACING, **RESAMPLING)
    data = np.ascontiguousarray(data)
    path = OUT / f"{volume}.b2nd"
    path.unlink(missing_ok=True)
    blosc2.asarray(data, urlpath=str(path), **_storage(data))


def _storage(data: np.ndarray) -> dict[str, Any]:
    """How the project stores an array."""
    if KIND == "nnssl":
        blocks, chunks = (
            tuple(min(sides) for sides in zip(NNSSL[part], data.shape, strict=True)) for part in ("blocks", "chunks")
        )
        parameters = {"codec": NNSSL["codec"], "clevel": NNSSL["clevel"], "nthreads": 1}
        return {"blocks": blocks, "chunks": chunks, "cparams": parameters, "mmap_mode": "w+"}
    blocks, chunks = comp_blosc2_params(data.shape, PATCH)
    parameters = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
    # as nnU-Net does: whichever filter makes the middle chunk smaller (its own function starts threads, which forks cannot have)
    middle = tuple(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(data.shape, map(min, chunks, data.shape), strict=True))
    slab = np.ascontiguousarray(data[middle])
    tried = {
        shuffle: blosc2.asarray(slab, chunks=slab.shape, blocks=blocks, cparams=parameters | {"filters": [shuffle]}).schunk.cbytes
        for shuffle in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE)
    }
    return {"blocks": blocks, "chunks": chunks, "cparams": parameters | {"filters": [min(tried, key=tried.__getitem__)]}}


def _open(volume: str) -> Any:
    return blosc2.open(str(OUT / f"{volume}.b2nd"), mode="r", dparams={"nthreads": 1}, mmap_mode="r")


def store(names: list[str]) -> float:
    """Seconds per volume from files to stored arrays."""
    return seconds(lambda: [_store(volume) for volume in names]) / len(names)


def memory(names: list[str]) -> int | None:
    """Bytes that `store` needs in addition to those of the process."""
    return peak_memory(lambda: [_store(volume) for volume in names])


def stored(names: list[str]) -> dict[str, Any]:
    """Bytes per stored volume, and the shape of the first."""
    sizes = [(OUT / f"{volume}.b2nd").stat().st_size for volume in names]
    return {"bytes": sum(sizes) / len(sizes), "shape": _open(names[0]).shape[1:]}


def keep(volume: str, source: str) -> int:
    """Bytes of an image (.npy, float32), z-scored and stored as this project stores its own; `read` reads it."""
    image = np.load(source)
    data = ZScoreNormalization(False, {}).run(image, np.zeros_like(image))[None]
    path = OUT / f"{volume}.same.b2nd"
    path.unlink(missing_ok=True)
    blosc2.asarray(np.ascontiguousarray(data), urlpath=str(path), **_storage(data))
    return path.stat().st_size


def read(volume: str, first: int, count: int) -> list[float]:
    """Seconds of reading a random patch of a file of `keep`, as both projects' loaders do: the file is mapped."""

    def work(number: int) -> None:
        array = _open(f"{volume}.same")
        array[(slice(0, 1), *patch_box(number, array.shape[1:], PATCH))]

    return [seconds(lambda n=n: work(n)) for n in range(first, first + count)]


NAME = f"nnU-Net {version('nnunetv2')}"
TASKS = {"store": store, "memory": memory, "stored": stored, "keep": keep, "read": read}
serve(NAME if KIND == "nnunet" else f"nnssl (by {NAME})", TASKS)
