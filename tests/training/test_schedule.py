import numpy as np
import pytest
import torch

from brainpretrain import config
from brainpretrain.config.sections import Phase
from brainpretrain.training.schedule import points, stretch_at, stretches, total_steps
from helpers import ROOT

RECIPES = config.load(ROOT / "config").finetune


def phase(**fields) -> Phase:
    return Phase(**{"lr": 1.0, "decay": "cosine"} | fields)


def test_warmup_ends_at_the_peak_and_cosine_at_zero():
    (s,) = stretches([phase(epochs=100, warmup_epochs=5, lr=1e-4)], steps_per_epoch=2769)
    assert total_steps([s]) == 276_900  # AMAES: 44,308 volumes, batch 16
    assert s.warmup_steps == 5 * 2769
    assert s.lr_at(s.warmup_steps) == pytest.approx(1e-4)
    assert 0 < s.lr_at(0) < 1e-7
    assert s.lr_at(276_899) < 1e-12
    half = s.warmup_steps + (s.steps - s.warmup_steps) // 2
    assert s.lr_at(half) == pytest.approx(5e-5, rel=1e-3)


def test_the_curve_rises_and_then_falls():
    (s,) = stretches([phase(steps=100, warmup_steps=10)], 1)
    curve = [s.lr_at(step) for step in range(100)]
    assert curve[:11] == sorted(curve[:11]) and curve[10:] == sorted(curve[10:], reverse=True)


def test_sawtooth_of_three_phases():
    tooth = {"steps": 50, "warmup_steps": 50}
    found = stretches([phase(**tooth, train="decoder"), phase(**tooth), phase(steps=100, decay="poly", exponent=0.9)], 1)
    assert total_steps(found) == 200
    assert [stretch_at(found, step).train for step in (0, 49, 50, 100, 199)] == ["decoder", "decoder", "all", "all", "all"]
    assert stretch_at(found, 50).lr_at(50) < stretch_at(found, 49).lr_at(49)
    assert stretch_at(found, 150).lr_at(150) == pytest.approx(0.5**0.9)


def test_steps_behind_the_end_belong_to_the_last_phase():
    found = stretches([phase(steps=10)], 1)
    assert stretch_at(found, 10).lr_at(10) == pytest.approx(0)


def curve_of(recipe):
    """Stretches of a recipe of the catalogue, and its learning rate and what it trains by step."""
    found = stretches(RECIPES[recipe].phases, 1)
    return found, lambda step: (stretch_at(found, step).lr_at(step), stretch_at(found, step).train)


@pytest.mark.parametrize(
    ("step", "lr", "train"),
    [
        (0, 1e-3 / 12_501, "decoder"),
        (6250, 5e-4, "decoder"),
        (12_499, 1e-3 * 12_500 / 12_501, "decoder"),  # D - 1
        (12_500, 1e-3 / 12_501, "all"),  # D
        (18_750, 5e-4, "all"),
        (24_999, 1e-3 * 12_500 / 12_501, "all"),
        (25_000, 1e-3, "all"),  # D + W
        (150_000, 1e-3 * 0.5**0.9, "all"),
        (274_999, 1e-3 * (1 / 250_000) ** 0.9, "all"),
        (275_000, 0, "all"),
    ],
)
def test_the_sawtooth_of_s3d(step, lr, train):
    found, at = curve_of("s3d")
    assert total_steps(found) == 275_000
    assert at(step) == (pytest.approx(lr, rel=1e-3), train)


def test_the_sawtooth_of_s3ds_code_jumps_from_half_of_the_peak():
    found, at = curve_of("s3d_code")
    assert total_steps(found) == 250_000
    assert at(6_250) == (pytest.approx(1e-3), "decoder")
    assert at(9_375) == (pytest.approx(1e-3 * 0.5**0.9), "decoder")  # the rate falls again: the tooth
    assert at(12_499) == (pytest.approx(1e-3 * (1 / 6250) ** 0.9), "decoder")
    assert at(24_999) == (pytest.approx(5e-4, rel=1e-3), "all")
    assert at(25_000) == (pytest.approx(1e-3), "all")


def test_lengths_and_peaks_of_the_catalogue():
    """Facts of the papers; one phase per length."""
    phases = {name: [(p.steps, p.warmup_steps, p.lr, p.train) for p in entry.phases] for name, entry in RECIPES.items()}
    assert phases["amaes"] == [(2500, 0, 1e-4, "all")]
    assert phases["nnunet"] == [(250_000, 0, 1e-2, "all")]
    assert phases["s3d_one_warmup"] == [(250_000, 12_500, 1e-3, "all")]  # 50 of 1000 "epochs" of 250 steps
    assert phases["zhang_unetr"] == [(10_000, 5_000, 1e-4, "all_but_stem")]
    assert phases["zhang_swinunetr"] == [(10_000, 5_000, 1e-4, "all")]
    lengths = {name: total_steps(curve_of(f"s3d_{name}")[0]) for name in ("25k", "37k", "50k", "75k", "150k")}
    assert lengths == {"25k": 25_000, "37k": 37_500, "50k": 50_000, "75k": 75_000, "150k": 150_000}
    for name, entry in RECIPES.items():
        if name.startswith("amaes"):
            assert sum(phase.steps for phase in entry.phases) == 2500, name


@pytest.mark.parametrize(
    ("decay", "exponent", "reference"),
    [
        ("poly", 0.9, lambda optimizer, steps: torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)),
        ("cosine", None, lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)),
    ],
)
def test_decays_are_those_of_torch(decay, exponent, reference):
    (one,) = stretches([phase(steps=40, decay=decay, exponent=exponent, lr=0.01)], 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = reference(optimizer, 40)
    for step in range(41):
        assert one.lr_at(step) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("recipe", RECIPES)
def test_few_points_tell_the_whole_curve(recipe):
    found, at = curve_of(recipe)
    rows = points(found, 50)
    assert len(rows) <= 53 * len(found)
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and (steps[0], steps[-1]) == (0, total_steps(found) - 1)
    assert all((row["lr"], row["train"]) == at(row["step"]) for row in rows)
    for number, one in enumerate(found, start=1):
        part = [row for row in rows if row["phase"] == number]
        assert (part[0]["step"], part[-1]["step"]) == (one.start, one.start + one.steps - 1)
        asked = np.linspace(one.start, one.start + one.steps - 1, 997).round()
        drawn = np.interp(asked, [row["step"] for row in part], [row["lr"] for row in part])
        assert np.abs(drawn - [at(int(step))[0] for step in asked]).max() < 0.01 * one.lr


def test_a_phase_of_one_step_is_one_point():
    found = stretches([phase(steps=1), phase(steps=2, warmup_steps=2)], 1)
    assert [(row["step"], row["phase"]) for row in points(found, 50)] == [(0, 1), (1, 2), (2, 2)]
