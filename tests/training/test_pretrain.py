import numpy as np
import pytest

import tiny
from brainpretrain import config, pretext
from brainpretrain.files import read_json
from brainpretrain.pretext.about import PICTURES
from brainpretrain.report.figures.slices import reconstructions
from brainpretrain.training.log import read_log
from helpers import ROOT
from trainings import assert_same_training, pretrain_here, with_processes


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(10))


def test_pretraining_leaves_all_its_results_and_no_work(encoder):
    names = sorted(path.name for path in encoder.iterdir() if path.name != "runs")
    assert names == [
        "config.yaml",
        "decoder.json",
        "decoder.safetensors",
        "encoder.json",
        "encoder.safetensors",
        "history.jsonl",
        "log.csv",
        "reconstruction.npz",
        "run.json",
        "schedule.tsv",
    ]
    assert not any((encoder.parent / "work").iterdir())
    run = read_json(encoder / "run.json")
    kept = encoder / "runs" / run["fingerprint"]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert all((kept / name).samefile(encoder / name) for name in names)
    assert {"commit", "torch", "hardware", "seconds", "peak_memory_gb", "parameters", "patches_per_s", "data_wait"} <= set(run)
    assert (run["steps"], run["volumes"], run["val_volumes"], run["subjects"]) == (10, 5, 1, 6)
    assert read_json(encoder / "encoder.json")["datasets"] == {"tiny": {"subjects": 6, "volumes": 6}}
    with np.load(encoder / "reconstruction.npz") as panels:
        assert panels["input"].shape == (1, 16, 16) and panels["hidden"].dtype == bool and list(panels["names"]) == ["s5_T1w"]


def test_the_log_has_a_row_per_epoch_with_baselines_and_validation(encoder):
    rows = read_log(encoder / "log.csv")
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10]  # 5 training volumes, batch 2: 2 steps per epoch
    assert {"loss", "val_loss", "loss_zero", "loss_mean", "lr", "patches_per_s", "data_wait", "peak_memory_gb"} <= set(rows[0])
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])


def test_columns_of_validation_stand_from_the_first_row_on(cohort, tmp_path):
    pretrain_here(cohort, tmp_path, tiny.pretrain_config(8, val_every_epochs=2))
    rows = read_log(tmp_path / "out" / "log.csv")
    assert [row["val_loss"] != "" for row in rows] == [False, True, False, True]


def test_validation_sees_the_same_patches_and_masks_in_every_epoch(encoder):
    """What guesses without learning has the same error each time; in training it has not."""
    rows = read_log(encoder / "log.csv")
    for name in ("loss_zero", "loss_mean"):
        assert len({row[f"val_{name}"] for row in rows}) == 1 < len({row[name] for row in rows})


@pytest.mark.parametrize(
    ("method", "changes"), [("volume_fusion", {}), ("models_genesis", {"windows": 10}), ("voco", {"grid": [2, 2, 1]})]
)
def test_pretexts_without_masks_leave_their_own_picture(cohort, tmp_path, method, changes):
    """The validation has one volume, which no other one is mixed or compared with."""
    options = next(dict(entry.options) for entry in config.load(ROOT / "config").pretexts.values() if entry.method == method)
    out = pretrain_here(cohort, tmp_path, tiny.pretrain_config(2, method=method, options=options | changes))
    assert (out / "decoder.safetensors").exists() == (method != "voco")
    assert {"loss", "val_loss"} | pretext.about(method).baselines <= set(read_log(out / "log.csv")[0])
    with np.load(out / "reconstruction.npz") as panels:
        assert tuple(panels["titles"]) == PICTURES[pretext.about(method).picture]
    reconstructions(out / "reconstruction.npz", tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


@pytest.mark.parametrize("method", ["amaes", "swinunetr"])  # the contract test compares one step of every method
def test_two_processes_pretrain_as_one_does(cohort, tmp_path, method):
    options = next(dict(entry.options) for entry in config.load(ROOT / "config").pretexts.values() if entry.method == method)
    optimizer = tiny.OPTIMIZER | {"eps": 1e-3}  # Adam's first steps would blow up differences in the last digit
    recipe = {"method": method, "options": options, "optimizer": optimizer, "phases": [tiny.phase(4, lr=1e-3)]}
    one = pretrain_here(cohort, tmp_path / "one", tiny.pretrain_config(4, **recipe))
    two = with_processes(cohort, tmp_path / "two", tiny.pretrain_config(4, **recipe), 2)
    assert_same_training(one, two, "encoder.safetensors")
    if method == "amaes":
        again = with_processes(cohort, tmp_path / "again", tiny.pretrain_config(4, **recipe), 2)
        assert (again / "encoder.safetensors").read_bytes() == (two / "encoder.safetensors").read_bytes()
