import numpy as np
import torch

from brainpretrain.pretext import models_genesis as genesis
from brainpretrain.seeds import generator


def one_after_another(image: torch.Tensor, rng: np.random.Generator, windows: int) -> torch.Tensor:
    """The same windows and permutations, written one after another."""
    size = np.array(image.shape[1:])
    sides = rng.integers(1, size // 10 + 1, (windows, 3))
    starts = rng.integers(0, size - sides + 1)
    keys = np.split(rng.random(int(sides.prod(1).sum())), sides.prod(1).cumsum()[:-1])
    result = image.clone()
    for start, side, key in zip(starts, sides, keys, strict=True):
        box = tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))
        result[0][box] = image[0][box].flatten()[np.argsort(key)].view(*map(int, side))
    return result


def test_shuffling_all_windows_at_once_is_shuffling_one_after_another():
    image = torch.rand(2, 20, 30, 40)
    found = genesis.shuffled(image, generator(3, "test"), 500)
    assert torch.equal(found, one_after_another(image, generator(3, "test"), 500))
    assert torch.equal(found[1], image[1]) and not torch.equal(found[0], image[0])  # the first channel alone


def test_a_curve_maps_the_ends_to_themselves_or_to_each_other():
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    assert genesis.curve(x, np.array([[0.2, 0.9], [0.7, 0.1]]), True).tolist() == [0, 0, 1, 1]
    assert genesis.curve(x, np.array([[0.2, 0.9], [0.7, 0.1]]), False).tolist() == [1, 1, 0, 0]


def test_flips_never_flip_z_and_input_and_target_alike():
    drawn = [tuple(genesis.flips(generator(seed, "test"))) for seed in range(300)]
    assert {axis for axes in drawn for axis in axes} == {0, 1, 2}
    image = torch.rand(1, 1, 16, 16, 16)
    chances = {"shuffle": 0.0, "intensity": 0.0, "paint": 0.0, "inpaint": 0.0}
    task = genesis.ModelsGenesis(torch.nn.Identity(), torch.nn.Identity(), chances, 1, True, False)
    for seed in range(20):
        clean, input, corrupted, painted = task.corrupted(image, 2 * image, [seed])
        assert torch.equal(clean, 2 * input) and torch.equal(input, corrupted) and not painted.any()
