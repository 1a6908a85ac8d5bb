"""This project's augmentation as a party. Arguments: `table` and `work` of stored volumes, `patch`, `policies`, `out`."""

from pathlib import Path

import numpy as np
import torch

from brainpretrain.augment import boxes, intensity, spatial
from brainpretrain.augment.config import Elastic
from brainpretrain.augment.policy import Policy
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import frames
from brainpretrain.training import samples as data
from harness import arguments, seconds, serve

torch.set_num_threads(1)
GIVEN = arguments()
FOLDER, PATCH, OUT = Path(GIVEN["work"]), [GIVEN["patch"]] * 3, Path(GIVEN["out"])
ROWS = read_tsv(Path(GIVEN["table"])).assign(dataset="bench")
POLICIES = {name: Policy(fields) for name, fields in GIVEN["policies"].items()}
PATCHES = {name: data.PretrainPatches(ROWS, FOLDER, PATCH, policy, seed=0) for name, policy in POLICIES.items()}
MEMORY = [np.pad(frames.load(FOLDER, row), 2 * GIVEN["patch"]) for row in ROWS.to_dict("records")]


def augmented(policy: str, first: int, count: int) -> list[float]:
    """Seconds of samples from disk to tensor."""

    def work(number: int) -> None:
        item = PATCHES[policy][number]
        POLICIES[policy].apply([item["image"]], [item["draws"]])

    return [seconds(lambda n=n: work(n)) for n in range(first, first + count)]


def augmented_from_memory(policy: str, first: int, count: int) -> list[float]:
    """Seconds of samples from a volume in memory to tensor, at the same places."""

    def work(number: int) -> None:
        patches = PATCHES[policy]
        volume = patches.volume_of(number)
        seed = data.sample_seed(0, number)
        start = boxes.random_start(np.random.default_rng(seed), [n - 4 * GIVEN["patch"] for n in MEMORY[volume].shape], PATCH)
        drawn = POLICIES[policy].draw(seed, 1, PATCH)
        at = [2 * GIVEN["patch"] + first for first in start]
        box = tuple(slice(a + low, a + high) for a, (low, high) in zip(at, drawn.box, strict=True))
        POLICIES[policy].apply([torch.from_numpy(MEMORY[volume][box])[None]], [drawn])

    return [seconds(lambda n=n: work(n)) for n in range(first, first + count)]


def spatial_move(crop: torch.Tensor, matrix: list, cubic: bool) -> torch.Tensor:
    """The middle of a crop, moved about the middle of the crop, as the peer does."""
    odd = (np.array(crop.shape[1:]) - PATCH) % 2
    move = spatial.Move(np.array(matrix), None, (np.array(PATCH) - 1 + odd) / 2)
    out = torch.empty(1, *PATCH)
    spatial.resample(crop, move, [-((n - p) // 2) for n, p in zip(crop.shape[1:], PATCH, strict=True)], cubic, out)
    return out


def elastic(crop: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """The middle of a crop, bent: field and resampling."""
    fields = Elastic(p=1, alpha=[alpha, alpha], sigma_voxels=[sigma, sigma])
    move = spatial.Move(np.eye(3), spatial.draw_elastic(np.random.default_rng(0), fields, PATCH), (np.array(PATCH) - 1) / 2)
    out = torch.empty(1, *PATCH)
    spatial.resample(crop, move, [-((n - p) // 2) for n, p in zip(crop.shape[1:], PATCH, strict=True)], True, out)
    return out


MOVES = {"spatial": spatial_move, "elastic": elastic}


def one(transform: str, source: str, numbers: dict) -> float:
    """Seconds of a transform with these numbers, clipped to its range; the result is left in `out`."""
    x = torch.from_numpy(np.load(source))[None]
    if "lines" in numbers:
        numbers = {"lines": [(axis, np.array(gains)) for axis, gains in numbers["lines"]]}
    if "voxels" in numbers:
        numbers = {"voxels": np.array(numbers["voxels"])}
    result = []

    def work() -> None:
        if transform in MOVES:
            result.append(MOVES[transform](x, **numbers))
        else:
            result.append(x.clone())
            intensity.change(result[0], {transform: numbers})

    taken = seconds(work)
    np.save(OUT, result[0][0].numpy())
    return taken


serve("brainpretrain", {"augmented": augmented, "augmented_from_memory": augmented_from_memory, "one": one})
