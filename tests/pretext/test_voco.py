import numpy as np
import pytest
import torch

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.pretext import planning, voco

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


CHANGES = {
    "mirror": {"p": 0.5, "axes": ["x", "y", "z"]},
    "noise": {"p": 0.5, "sigma": [0.05, 0.1]},
    "brightness": {"p": 1, "factor": [0.5, 0.9]},
}


def test_each_crop_is_changed_by_itself_in_training_alone_and_keeps_its_overlaps():
    plain, changed = task(), task(augment=CHANGES, turn=1.0)
    images, seeds = torch.rand(2, 1, 16, 16, 8, generator=torch.Generator().manual_seed(0)), [3, 4]
    cut, labels = plain._crops(images, seeds)
    crops, same = changed._crops(images, seeds)
    assert crops.shape == cut.shape and torch.equal(labels, same)
    factors = [(new.mean() / old.mean()).item() for new, old in zip(crops.flatten(0, 1), cut.flatten(0, 1), strict=True)]
    assert all(0.45 < factor < 0.95 for factor in factors) and len({round(factor, 3) for factor in factors}) > 10
    alone, _ = changed._crops(images[1:], seeds[1:])
    assert torch.equal(alone[0], crops[1])  # whatever the other patches of the batch are
    assert torch.equal(changed.eval()._crops(images, seeds)[0], cut)


def test_a_turn_keeps_the_voxels_of_a_crop():
    images = torch.rand(1, 1, 16, 16, 8)
    turned, cut = task(turn=1.0)._crops(images, [0])[0][0], task()._crops(images, [0])[0][0]
    assert turned.shape == cut.shape
    for new, old in zip(turned, cut, strict=True):
        assert not torch.equal(new, old) and torch.equal(new.flatten().sort().values, old.flatten().sort().values)
    half = [
        torch.equal(new, old)
        for new, old in zip(task(turn=0.5)._crops(images, [1])[0][0], task()._crops(images, [1])[0][0], strict=True)
    ]
    assert 0 < sum(half) < len(half)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turn": 1.5}, "no probability"),
        ({"augment": {"rotation": {"p": 1, "p_axis": 1, "angle_deg": [-9, 9]}, "interpolation": "linear"}}, "off their grid"),
    ],
)
def test_changes_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        task(**options)
    with pytest.raises(UserError, match="cannot be turned by 90 degrees"):
        task(turn=1.0, grid=[1, 2, 1])._crops(torch.rand(1, 1, 16, 16, 4), [0])
    given = OPTIONS | {"turn": 0.5, "grid": [1, 2, 1]}
    with pytest.raises(UserError, match="cannot be turned by 90 degrees"):
        planning.check("voco", given, [16, 16, 4], 2, ("unet", None), "pretexts.mine")
    planning.check("voco", given, [16, 16, 8], 2, ("unet", None), "pretexts.mine")
