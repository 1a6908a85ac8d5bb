import pytest

from brainpretrain.schedule import stretch_at, stretches, total_steps

PHASE = {
    "steps": None,
    "epochs": None,
    "warmup_steps": 0,
    "warmup_epochs": 0,
    "lr": 1.0,
    "decay": "cosine",
    "train": "all",
    "exponent": None,
}


def test_warmup_ends_at_the_peak_and_cosine_at_zero():
    (s,) = stretches([PHASE | {"epochs": 100, "warmup_epochs": 5, "lr": 1e-4}], steps_per_epoch=2769)
    assert total_steps([s]) == 276_900  # AMAES: 44,308 volumes, batch 16
    assert s.warmup_steps == 5 * 2769
    assert s.lr_at(s.warmup_steps) == pytest.approx(1e-4)
    assert 0 < s.lr_at(0) < 1e-7
    assert s.lr_at(276_899) < 1e-12
    half = s.warmup_steps + (s.steps - s.warmup_steps) // 2
    assert s.lr_at(half) == pytest.approx(5e-5, rel=1e-3)


def test_the_curve_rises_and_then_falls():
    (s,) = stretches([PHASE | {"steps": 100, "warmup_steps": 10}], 1)
    curve = [s.lr_at(step) for step in range(100)]
    assert curve[:11] == sorted(curve[:11]) and curve[10:] == sorted(curve[10:], reverse=True)


def test_sawtooth_of_three_phases():
    tooth = PHASE | {"steps": 50, "warmup_steps": 50, "train": "decoder"}
    found = stretches([tooth, tooth | {"train": "all"}, PHASE | {"steps": 100, "decay": "poly", "exponent": 0.9}], 1)
    assert total_steps(found) == 200
    assert [stretch_at(found, step).train for step in (0, 49, 50, 100, 199)] == ["decoder", "decoder", "all", "all", "all"]
    assert stretch_at(found, 50).lr_at(50) < stretch_at(found, 49).lr_at(49)
    assert stretch_at(found, 150).lr_at(150) == pytest.approx(0.5**0.9)


def test_steps_behind_the_end_belong_to_the_last_phase():
    found = stretches([PHASE | {"steps": 10}], 1)
    assert stretch_at(found, 10).lr_at(10) == pytest.approx(0)
