"""The benchmark of pretraining, run for real at a tiny size without the peer. No number that a clock gave is judged."""

import importlib
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from brainpretrain import backbones, decoders
from helpers import ROOT


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("pretraining")


@pytest.fixture
def amaes(bench):
    return importlib.import_module("amaes_training")


def test_without_the_peer_the_gap_shows(bench, tmp_path, monkeypatch):
    volume = tmp_path / "v.nii.gz"
    values = np.random.default_rng(0).integers(1, 500, (40, 40, 40)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), volume)
    monkeypatch.setattr(bench, "inputs", lambda data, work, settings: ([volume], "1 volume"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    line = f"--peers {tmp_path}/none --patch 32 --widths 1 --rounds 1 --steps 1 --batch 1 --json {tmp_path}/found.json"
    bench.main(line.split())
    found = json.loads((tmp_path / "found.json").read_text())
    for which in ("width 1, float32", "width 1, bfloat16"):
        assert found["details"][which]["parameters"] > 1000 and found["details"][which]["operations"] > 1e6
        rows = [row for row in found["figures"] if row["what"].endswith(which)]
        ours = [row for row in rows if row["party"].startswith("brainpretrain")]
        assert len(ours) == 4 and all(row["median"] > 0 for row in ours)
        (floor,) = [row for row in rows if row["party"] == "floor"]
        assert 0 < floor["median"] < ours[0]["median"]
        assert all(row["median"] is None for row in rows if row not in (*ours, floor))
    assert found["goals"][0]["value"] is None and found["goals"][0]["at_least"] == 3


def test_the_table_has_the_ratios_of_the_numbers(bench):
    rows = {name: [{"all": 0.5, "samples": 0.1}] * 3 for name in bench.OURS}
    network = {"found": rows | {"y": [{"all": 2.0, "samples": 1.5}]}, "floor_s": 0.02}
    lines = bench.table({"width 2": network, "width 4": network}, "y").splitlines()[2:]
    assert lines[1] == "| width 2 | brainpretrain, execution: channels_last | 500 | 100 | 400 | 4.00x | at least 3x |"
    assert lines[2] == "| width 2 | AMAES' step, fed by y | 2000 | 1500 | 500 |  |  |"
    assert lines[3].startswith("| width 2 | floor: the operations of the network | 20 |")
    assert lines[5].endswith("| 4.00x |  |")  # the goal is about the first network


def test_the_peers_network_is_the_same_function(amaes):
    encoder = backbones.build("unet", 1, width=2, levels=3, convs_per_stage=2)
    decoder = decoders.build("unet", encoder, 1, convs_per_stage=1, skips=False)
    network = amaes.Network(2, 3)
    stages = [part for pair in zip(network.ups, network.decoder, strict=True) for part in pair]
    theirs = [*network.encoder.parameters(), *(p for part in stages for p in part.parameters()), *network.head.parameters()]
    ours = [*encoder.parameters(), *decoder.stages.parameters(), *decoder.head.parameters()]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            a.copy_(b)
        x = torch.rand(2, 1, 16, 16, 16, dtype=torch.float64)
        torch.testing.assert_close(decoder.double()(encoder.double()(x), x), network.double()(x))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_peers_step_learns_and_refuses_other_ranges(amaes, mixed):
    training = amaes.Training(2, 2, {"lr": 1e-2}, mixed)
    sample = {key: torch.full((1, 16, 16, 16), 0.5) for key in ("image", "label")}
    losses = [training.step([sample, sample]) for _ in range(12)]
    assert losses[-1] < losses[0] / 2
    with pytest.raises(AssertionError):
        training.step([sample | {"image": sample["image"] + 1}])
