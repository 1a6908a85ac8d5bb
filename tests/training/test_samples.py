import numpy as np
import pytest

from brainpretrain.augment import boxes
from brainpretrain.augment.policy import Policy
from brainpretrain.cohorts.cases import label_lookup, labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.training import samples as data


@pytest.fixture
def cases(cohort):
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [case for group in found.values() for case in group]


LOOKUP = label_lookup({"ball": [1]}, [])
PLAIN = Policy({})
TURN = {
    "interpolation": "cubic",
    "rotation": {"p": 0.5, "p_axis": 1, "angle_deg": [-20, 20]},
    "noise": {"p": 0.5, "sigma": [0.1, 0.2]},
}
TURNING = Policy({"crop_factor": 1.5, **TURN})


@pytest.mark.parametrize("start", [[0, 0, 0], [6, 4, 2], [-2, 3, 0]])
def test_a_crop_is_the_patch_with_a_margin_and_zeros_outside(start):
    volume = np.arange(1, 1 + 22 * 20 * 18, dtype=np.float32).reshape(22, 20, 18)
    wanted = ((-3, 19), (0, 16), (2, 21))
    box, padding = boxes.crop_box(start, wanted, volume.shape)
    got = np.pad(volume[box], padding)
    assert got.shape == (22, 16, 19)
    big = np.pad(volume, 30)
    assert np.array_equal(
        got, big[tuple(slice(30 + s + low, 30 + s + high) for s, (low, high) in zip(start, wanted, strict=True))]
    )


def test_a_start_keeps_the_patch_inside_and_centres_what_is_too_small():
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = boxes.random_start(rng, (20, 16, 10), (16, 16, 16))
        assert 0 <= start[0] <= 4 and start[1] == 0 and start[2] == -3
        around = boxes.start_around(rng, (19, 0, 5), (20, 16, 10), (16, 16, 16))
        assert around[0] <= 19 < around[0] + 16 and 0 <= around[0] <= 4 and around[1:] == [0, -3]


def test_every_volume_once_per_epoch_in_a_new_order(cohort):
    rows = read_tsv(cohort.corpus)
    patches = data.PretrainPatches(rows, cohort.data, [16] * 3, TURNING, seed=0)
    epochs = [[patches.volume_of(e * len(rows) + i) for i in range(len(rows))] for e in range(4)]
    assert all(sorted(epoch) == list(range(len(rows))) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_sample_depends_on_its_number_alone(cohort):
    rows = read_tsv(cohort.corpus)
    first, second = (data.PretrainPatches(rows, cohort.data, [16] * 3, TURNING, seed=0) for _ in range(2))
    forward = [first[i] for i in range(8)]
    for number in reversed(range(8)):
        again = second[number]
        assert again["seed"] == forward[number]["seed"] and again["image"].equal(forward[number]["image"])
        assert again["draws"].box == forward[number]["draws"].box
    assert str(forward[0]["image"].dtype) == "torch.float16"
    assert len({item["seed"] for item in forward}) == 8


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_a_sample_reads_what_its_draws_need_and_no_more(cohort, interpolation):
    """What is read ahead of the draws, as large as the crop, gives the same patch."""
    rows, policy = read_tsv(cohort.corpus), Policy({"crop_factor": 5.0, **TURN, "interpolation": interpolation})
    some = data.PretrainPatches(rows, cohort.data, [8] * 3, policy, seed=0)
    every = data.PretrainPatches(
        rows, cohort.data, [8] * 3, Policy(policy.config.model_copy(update={"resample_always": True})), seed=0
    )
    sizes = set()
    for number in range(12):
        item, whole = some[number], every[number]
        draws = item["draws"]
        assert list(item["image"].shape[1:]) == [high - low for low, high in draws.box]
        assert whole["image"].shape == (1, 40, 40, 40)
        sizes.add(tuple(item["image"].shape))
        if draws.move is None:
            assert item["image"].equal(whole["image"][:, 16:24, 16:24, 16:24])
        else:
            target, same = (policy.apply([x["image"]], [x["draws"]])[1] for x in (item, whole))
            inside = (target > target.min()) & (same > same.min()) & (target < target.max())
            assert inside.float().mean() > 0.5
            assert (target - same)[inside].abs().max() < 2e-3
    assert (1, 8, 8, 8) in sizes and len(sizes) > 3


def test_foreground_share_is_kept(cases):
    shares = []
    for fraction in (0.0, 0.5, 1.0):
        patches = data.FinetunePatches(cases, [LOOKUP] * len(cases), [2] * 3, PLAIN, fraction, seed=1)
        shares.append(np.mean([bool((patches[i]["label"] == 1).any()) for i in range(400)]))
    assert shares[2] == 1
    assert abs(shares[1] - (shares[0] + 1) / 2) < 0.08


def test_image_and_label_are_cut_alike(cases):
    patches = data.FinetunePatches(cases, [LOOKUP] * len(cases), [16] * 3, PLAIN, 1.0, seed=0)
    item = patches[3]
    image, label = item["image"][0].float(), item["label"]
    assert image[label == 1].mean() > image[label == 0].mean() + 0.3  # the ball is bright


def test_a_round_takes_every_case_once(cases):
    patches = data.FinetunePatches(cases, [LOOKUP] * len(cases), [4] * 3, PLAIN, 0.0, seed=0)
    assert sorted(patches.case_of(i) for i in range(len(cases))) == list(range(len(cases)))


def test_ranks_share_each_global_batch_and_a_resume_goes_on_behind():
    whole = list(data.StepSampler(4, 5, 5, lambda: 0))
    ranks = [list(data.StepSampler(4, 5, 5, lambda: 0, rank, 2)) for rank in (0, 1)]
    assert whole[2] == [8, 9, 10, 11]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == whole
    assert list(data.StepSampler(4, 5, 5, lambda: 3)) == whole[3:]
    assert list(data.StepSampler(4, 2, 5, lambda: 3)) == whole[3:4]  # the epoch ends at step 4
    with pytest.raises(UserError, match="global_batch 4 cannot be divided by 3"):
        data.StepSampler(4, 5, 5, lambda: 0, 0, 3)


def test_loader_workers_change_nothing(cohort):
    rows = read_tsv(cohort.corpus)
    patches = data.PretrainPatches(rows, cohort.data, [16] * 3, TURNING, seed=0)
    batches = [list(data.loader(patches, data.StepSampler(2, 3, 3, lambda: 0), workers, pin=False)) for workers in (0, 2)]
    for a, b in zip(*batches, strict=True):
        assert a["seed"].equal(b["seed"]) and all(x.equal(y) for x, y in zip(a["image"], b["image"], strict=True))
        results = [TURNING.apply(batch["image"], batch["draws"]) for batch in (a, b)]
        assert all(x.equal(y) for x, y in zip(*results, strict=True))
