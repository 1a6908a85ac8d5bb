import numpy as np
import pytest
import torch

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.pretext import voco

OPTIONS = {
    "grid": [2, 2, 1], "targets": 3, "hidden": 8, "norm": "batch", "average": "image", "negative": "square",
    "regularisation": "plain", "last_position": True,
}  # fmt: skip


def task(**changes) -> voco.VoCo:
    torch.manual_seed(0)
    encoder = backbones.build("unet", 1, width=4, levels=2, convs_per_stage=1)
    return pretext.build("voco", encoder, 1, **OPTIONS | changes)


def test_overlaps_are_shares_of_voxels():
    """Counted voxel by voxel, on a grid that the last window leaves."""
    crop, grid = [4, 3, 5], [2, 3, 1]
    owner = np.full((10, 12, 8), -1)
    for number, (i, j, k) in enumerate(np.ndindex(*grid)):
        owner[4 * i : 4 * i + 4, 3 * j : 3 * j + 3, 5 * k : 5 * k + 5] = number
    starts = np.array([[0, 0, 0], [3, 2, 0], [4, 6, 0], [6, 7, 3]])
    for start, row in zip(starts, voco.overlaps(starts, crop, grid), strict=True):
        inside = owner[tuple(slice(a, a + n) for a, n in zip(start, crop, strict=True))]
        np.testing.assert_allclose(row, [(inside == number).mean() for number in range(6)], atol=1e-12)


@pytest.mark.parametrize("last", [True, False])
def test_the_last_position_is_drawn_or_not(last):
    module = task(last_position=last)
    starts = np.concatenate([module.starts(seed, [16, 16, 8]) for seed in range(60)])
    assert starts.min(0).tolist() == [0, 0, 0] and starts.max(0).tolist() == [7 + last, 7 + last, 0]


def test_the_teacher_follows_before_the_step_and_in_training_alone():
    module = task(teacher=True, momentum=0.75)
    student, teacher = (next(part.parameters()) for part in (module.encoder, module.teacher[0]))
    before = teacher.clone()
    assert not torch.equal(before, student)  # other random weights
    images = torch.rand(2, 1, 16, 16, 8)
    module.eval()(images, images, [0, 1])
    assert torch.equal(teacher, before)
    module.train()(images, images, [0, 1])["loss"].backward()
    torch.testing.assert_close(teacher, 0.75 * before + 0.25 * student)
    assert student.grad is not None and teacher.grad is None


def test_the_monitor_sees_a_collapse():
    one = torch.rand(1, 1, 16).expand(3, 5, 16)
    assert voco.spread(one).item() == pytest.approx(0, abs=1e-6) and voco.spread(torch.randn(3, 50, 16)) > 0.9


def test_crops_can_be_resampled_and_embeddings_dropped():
    images = torch.rand(2, 1, 16, 16, 8)
    assert task(crop_size=[4, 4, 4])(images, images, [0, 1])["loss"].isfinite()
    assert task(drop=0.5)(images, images, [0, 1])["loss"] != task()(images, images, [0, 1])["loss"]
    assert task(drop=0.5).eval()(images, images, [0, 1])["loss"] == task().eval()(images, images, [0, 1])["loss"]


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="did you mean 'instance'"):
        task(norm="instances")
    with pytest.raises(UserError, match="is no share below 1"):
        task(momentum=1.0)
    with pytest.raises(UserError, match="cannot be cut into"):
        task()(torch.rand(1, 1, 15, 16, 8), torch.rand(1, 1, 15, 16, 8), [0])
