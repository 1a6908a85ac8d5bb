"""The command that runs recorded fixtures: what it reads, what it says, and that a figure that is off is an error."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch

from brainpretrain import cli, parity
from brainpretrain.errors import UserError
from brainpretrain.parity import compare, formulas, models_genesis, swinunetr, volume_fusion
from helpers import ROOT

FIXTURES = ROOT / "tests" / "parity" / "fixtures"
FORMULA = "x[b,c,i,j,k] = 0.5 + 0.5*sin(0.11*i + 0.23*j + 0.31*k + 0.7*b + 0.5*c), float32 (b, c = 0 gives a wave)"


def wave(size: list[int], b: int = 0) -> np.ndarray:
    i, j, k = np.indices(size)
    return (0.5 + 0.5 * np.sin(0.11 * i + 0.23 * j + 0.31 * k + 0.7 * b)).astype(np.float32)


@pytest.fixture
def fixture() -> dict:
    """A fixture of VolumeFusion, computed here from its words: two boxes in two waves, and the loss of a few logits."""
    size, share = [10, 9, 8], np.zeros((10, 9, 8))
    share[1:5, 2:5, 0:6], share[3:6, 0:4, 4:8] = 1.0, 0.25
    fused = torch.from_numpy((share * wave(size) + (1 - share) * (1 - wave(size, 1))).astype(np.float32))[None]
    logits = 2 * torch.from_numpy(formulas.seq("logits", (1, 5, 3, 4, 2)))
    label = ((torch.from_numpy(formulas.seq("label", (1, 1, 3, 4, 2))) + 1) / 2 * 4.999).floor().long()[:, 0]
    entropy = torch.nn.functional.cross_entropy(logits, label).item()
    p, y = logits.softmax(1).flatten(2), torch.nn.functional.one_hot(label.flatten(1), 5).transpose(1, 2)
    minus_dice = -((2 * (p * y).sum(2) + 1e-5) / (p.sum(2) + y.sum(2) + 1e-5)).mean().item()
    return {
        "what": "VolumeFusion, tiny",
        "filling": {"image": FORMULA},
        "semantics": [],
        "fusion": {
            "foreground": "image formula, b=0,c=0",
            "background": "1 - (image formula with b=1,c=0)",
            "size": size,
            "boxes": "size_x,size_y,size_z,start_x,start_y,start_z, drawn in this order",
            "box_list": [[4, 3, 6, 1, 2, 0], [3, 4, 4, 3, 0, 4]],
            "classes": [4, 1],
            "fused": {
                "shape": [1, *size],
                "mean": fused.double().mean().item(),
                "std": fused.double().std().item(),
                "first8": fused.flatten()[:8].tolist(),
                "last8": fused.flatten()[-8:].tolist(),
            },
            "voxels_per_class": [int((share == value).sum()) for value in (0, 0.25, 0.5, 0.75, 1)],
        },
        "loss": {
            "logits": "2 * seq('logits', (1,5,3,4,2))",
            "labels": "floor((seq('label', (1,1,...)) + 1)/2*4.999)",
            "voxels_per_class": label.flatten().bincount(minlength=5).tolist(),
            "loss": entropy + minus_dice,
            "minus_dice": minus_dice,
            "cross_entropy": entropy,
        },
    }


def test_a_fixture_that_agrees_ends_well_and_one_figure_that_is_off_does_not(fixture, tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps(fixture))
    (tmp_path / "b.json").write_text(json.dumps({"what": "something else"}))
    assert cli.main(["parity", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "groups of figures agree" in said and "no method here reads files of their kind: b.json" in said
    assert said.count("  ok ") == 4 and "OFF" not in said

    for change in (
        lambda x: x["fusion"]["fused"].update(std=x["fusion"]["fused"]["std"] + 1e-4),
        lambda x: x["fusion"]["voxels_per_class"].__setitem__(0, 1),
        lambda x: x["loss"].update(loss=x["loss"]["loss"] + 1e-4),
        lambda x: x["fusion"].pop("size"),
    ):
        changed = copy.deepcopy(fixture)
        change(changed)
        (tmp_path / "a.json").write_text(json.dumps(changed))
        assert cli.main(["parity", str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert "  OFF " in said.out and "a.json: " in said.err


def test_a_folder_without_a_fixture_is_refused(tmp_path):
    with pytest.raises(UserError, match="no fixture here"):
        parity.fixtures(tmp_path)
    (tmp_path / "b.json").write_text("{}")
    assert cli.main(["parity", str(tmp_path)]) == 2
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match="not a fixture"):
        parity.lines(tmp_path / "b.json")


def test_formulas_are_arithmetic_and_nothing_else():
    assert formulas.evaluate("2 * seq('a', (2, 3)) + 0.5 - 1 % 2").shape == (2, 3)
    assert formulas.evaluate("clamp(seq('a', (4, ...)) - 0.3, min 0)", {"...": (9, 5)}).min() == 0
    assert formulas.seq("a", [4])[3] == np.float32(math.cos(3 * 0.7548776662466927 + 3904355907 % 1000))
    np.testing.assert_array_equal(formulas.image(FORMULA, [2, 1, 3, 4, 5])[1, 0], wave([3, 4, 5], 1))
    for text in ("open('x')", "().__class__", "[x for x in (1,)]", "a"):
        with pytest.raises(ValueError, match="not a formula"):
            formulas.evaluate(text)


def test_draws_pass_where_chance_allows_them_and_not_otherwise():
    rng = np.random.default_rng(0)
    sample = rng.normal(size=2000)
    levels = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    recorded = {
        "n": 2000,
        "mean": sample.mean(),
        "sd": sample.std(),
        "quantiles": {str(level): np.quantile(sample, level) for level in levels},
    }
    assert all(line.passes for line in compare.distribution("same", rng.normal(size=500), recorded))
    wider, shifted = (compare.distribution("x", x, recorded) for x in (2 * rng.normal(size=500), rng.normal(size=500) + 0.5))
    assert [line.passes for line in wider] == [True, False] and [line.passes for line in shifted] == [False, False]
    assert compare.share("half", 0.52, 0.5, 2000, 500).passes and not compare.share("half", 0.7, 0.5, 2000, 500).passes
    assert not compare.share("never", 0.02, 0.0, 2000, 500).passes and compare.share("never", 0.0, 0.0, 2000, 500).passes


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_the_figures_of_the_authors_programs(path, monkeypatch):
    """With fewer draws than the command has; what chance allows follows their number."""
    for module in (models_genesis, volume_fusion):
        monkeypatch.setattr(module, "RUNS", 100)
    monkeypatch.setattr(models_genesis, "SHUFFLES", 6)
    monkeypatch.setattr(swinunetr, "BATCHES", 30)
    lines = list(parity.lines(path))
    assert len(lines) > 10 and [line for line in lines if not line.passes] == []


class Dice:
    """A kind of fixture whose first draw is off."""

    @staticmethod
    def check(content: dict, draw: int = 0):
        yield compare.Line("sixes (worst: 3)", 2.0 - draw, compare.CHANCE)
        yield compare.Line("always off", 2.0, compare.CHANCE)
        yield compare.Line("no draw", 2.0, 1e-5)


def test_draws_that_are_off_are_drawn_once_more():
    assert [line.passes for line in parity._guarded(Dice, {})] == [True, False, False]
