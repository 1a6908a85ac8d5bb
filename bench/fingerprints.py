"""Similarity of altered copies of a volume, and of other subjects: the measurements behind `near_copy` in config.yaml.

python bench/fingerprints.py --data FOLDER --pattern 'ixi_2mm/*/T1.nii.gz' --preprocess coarse_2mm --copies 12
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from brainpretrain.cohorts import fingerprints
from brainpretrain.config import load
from brainpretrain.preprocess.geometry import to_ras
from brainpretrain.preprocess.nifti import BadVolume, Volume, read_volume
from brainpretrain.preprocess.resampling import CUBIC, resize
from brainpretrain.preprocess.volumes import preprocess


def with_grid(array: np.ndarray, affine: np.ndarray, volume: Volume) -> Volume:
    """Other voxels on another grid, as if read from a file."""
    spacing_mm = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(np.ascontiguousarray(array, dtype=np.float32), affine, spacing_mm, volume.path, volume.facts)


def resampled(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """On a grid with voxels larger by these factors."""
    shape = tuple(max(15, round(n / factor)) for n, factor in zip(volume.array.shape, factors, strict=True))
    grid = np.diag([*(n / m for n, m in zip(volume.array.shape, shape, strict=True)), 1])
    return with_grid(np.maximum(resize(volume.array.astype(np.float32), shape, CUBIC, True), 0), volume.affine @ grid, volume)


def turned(volume: Volume) -> Volume:
    """Stored with the first axis the other way round, and a header that says so."""
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.array.shape[0] - 1
    return with_grid(volume.array[::-1], volume.affine @ flip, volume)


def noisy(volume: Volume) -> Volume:
    """Noise of 2 % of the bright end in the foreground."""
    array, rng = volume.array.astype(np.float32), np.random.default_rng(0)
    noise = rng.normal(0, 0.02 * np.percentile(array, 99), array.shape)
    return with_grid(np.where(array > 0, np.maximum(array + noise, 0), 0), volume.affine, volume)


def cut(volume: Volume, low: float, high: float) -> Volume:
    """Without these shares of the box of the foreground at the lower and the upper end of each axis."""
    where = np.argwhere(volume.array > 0)
    ends = zip(where.min(axis=0), where.max(axis=0) + 1, strict=True)
    box = tuple(slice(int(a + round(low * (b - a))), int(b - round(high * (b - a)))) for a, b in ends)
    return with_grid(volume.array[box], volume.affine, volume)


def brighter_ahead(volume: Volume) -> Volume:
    """A smooth field from 0.82 to 1.22 along the second axis."""
    field = np.exp(0.2 * np.linspace(-1, 1, volume.array.shape[1]))[None, :, None]
    return with_grid(volume.array * field, volume.affine, volume)


COPIES: dict[str, Callable[[Volume], Volume]] = {
    "other units (x 3.7)": lambda v: with_grid(3.7 * v.array, v.affine, v),
    "other orientation in the file": turned,
    "left and right swapped": lambda v: with_grid(np.flip(v.array, to_ras(v.array, v.affine)[2].axes[0]), v.affine, v),
    "spacing in the header x 1.05": lambda v: with_grid(v.array, v.affine @ np.diag([1.05, 1.05, 1.05, 1]), v),
    "voxels 1.3 times larger": lambda v: resampled(v, (1.3, 1.3, 1.3)),
    "slices twice as thick": lambda v: resampled(v, (1, 1, 2)),
    "gamma 0.8": lambda v: with_grid((v.array / v.array.max()) ** 0.8, v.affine, v),
    "gamma 1.3": lambda v: with_grid((v.array / v.array.max()) ** 1.3, v.affine, v),
    "noise of 2 %": noisy,
    "bias field": brighter_ahead,
    "2 voxels cut off each face": lambda v: with_grid(v.array[2:-2, 2:-2, 2:-2], v.affine, v),
    "foreground cut by 2 % at 6 faces": lambda v: cut(v, 0.02, 0.02),
    "foreground cut by 5 % at 3 faces": lambda v: cut(v, 0.05, 0),
}


def main() -> None:
    """Prints the similarity of other subjects and of each kind of copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of raw volumes")
    parser.add_argument("--pattern", required=True, help="one volume per subject, by a pattern below it")
    parser.add_argument("--preprocess", required=True, help="entry of config/preprocess.yaml")
    parser.add_argument("--copies", type=int, required=True, help="so many of the volumes are altered")
    args = parser.parse_args()
    recipe = load("config").stored_as(args.preprocess)

    def vector(volume: Volume) -> np.ndarray:
        """The vector of the image as it would be stored, in float16."""
        return fingerprints.vector(preprocess(volume, None, recipe)[0].astype(np.float16))

    volumes, vectors = [], []
    for path in sorted(args.data.glob(args.pattern)):
        volume = read_volume(path)
        try:
            vectors.append(vector(volume))
            volumes.append(volume)
        except BadVolume as error:
            print(f"left out: {path.name}: {error.reason}")
    stacked = np.stack(vectors)
    others = (stacked @ stacked.T)[np.triu_indices(len(stacked), 1)]
    highest, most, middle = np.quantile(others, [1, 0.99, 0.5])
    print(f"{len(volumes)} subjects, {len(others):,} pairs: highest {highest:.3f}, 99 % below {most:.3f}, median {middle:.3f}")
    chosen = np.linspace(0, len(volumes) - 1, min(args.copies, len(volumes))).astype(int)
    mirrored = np.concatenate([half * sign for half, sign in zip(np.split(stacked, 2, axis=1), (1, -1), strict=True)], axis=1)
    for what, alter in COPIES.items():
        copies = np.stack([vector(alter(volumes[i])) for i in chosen])
        found = np.maximum(np.sum(copies * stacked[chosen], axis=1), np.sum(copies * mirrored[chosen], axis=1))
        print(f"  {what:34} lowest {found.min():.3f}, median {np.median(found):.3f}")


if __name__ == "__main__":
    main()
