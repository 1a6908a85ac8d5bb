import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from helpers import ROOT, edit
from mistakes import refused

STUDIES = sorted(path.stem for path in (ROOT / "config" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_is_valid(study):
    assert config.load(ROOT / "config", {"study": study}).study_name == study


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("tables.yaml", "recipe: amaes", "recipe: amas", r"no entry 'amas' in 'finetune'[\s\S]*did you mean 'amaes'"),
        ("config.yaml", "study: amaes ", "study: amaas ", r"no study 'amaas'[\s\S]*did you mean 'amaes'"),
        ("tasks.yaml", "tasks:", "task:", r"unknown key 'task'[\s\S]*did you mean 'tasks'"),
        ("studies/amaes.yaml", "folds: 6", "fold: 6", r"unknown key 'fold'[\s\S]*did you mean 'folds'"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("studies/amaes.yaml", "folds: 6", "folds: 1000000000", r"folds: must be less than or equal to 1000 \(found 1000000000\)"),
        ("tasks.yaml", "tasks:", "null:", "unknown key 'None'"),
        ("tasks.yaml", "tasks:", "tasks:\n  1: {}", "'tasks' has an entry called 1"),
    ],
)  # fmt: skip
def test_odd_names_and_numbers_are_refused(config_dir, file, old, new, message):
    edit(config_dir / file, old, new)
    with pytest.raises(UserError, match=message):
        config.load(config_dir)


def test_a_backbone_may_change_a_pretext():
    loaded = config.load(ROOT / "config")
    assert loaded.pretext("amaes", "unet_b").global_batch == 16
    changed = loaded.pretext("amaes", "mednext_m")
    assert (changed.global_batch, changed.phases[0].lr, changed.optimizer.amsgrad) == (8, 5e-4, True)


def test_settings_from_the_command_line_win():
    assert config.load(ROOT / "config", {"study": "demo", "data_root": "/data"}).data_root("ixi") == "/data/ixi"
    assert config.load(ROOT / "config", {"data_roots": {"ixi": "/x"}}).data_root("ixi") == "/x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mirror": ["x", "w"]}, r"mirror\.1: "),
        ({"mirror": ["x", "x"]}, "an axis occurs twice in 'mirror'"),
        ({"mirrors": []}, "mirrors: unknown key; did you mean 'mirror'"),
        ({"overlap": 1}, "overlap: "),
    ],
)
def test_a_sliding_window_from_outside_is_checked_like_an_entry(change, message):
    good = {"overlap": 0.5, "weights": "gaussian", "batch": 1, "mirror": ["z", "x"]}
    assert config.inference(good, "--inference") == good
    with pytest.raises(UserError, match=message) as caught:
        config.inference(good | change, "--inference")
    assert caught.value.where == "--inference"
    with pytest.raises(UserError, match="mirror: missing"):
        config.inference({key: good[key] for key in ("overlap", "weights", "batch")}, "--inference")
