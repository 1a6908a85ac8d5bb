import pytest

from brainpretrain import config
from helpers import ROOT
from mistakes import refused


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5, lr: 1.0e-4", "warmup_epochs: 5, lr: 1.0e-4", "needs either 'steps' or 'epochs'"),
        ("backbones.yaml", "{pretext: amaes, parameters: 17879617", "{pretext: amaes, classes: 2, parameters: 17879617", r"either 'pretext' or 'classes'"),
        ("config.yaml", "execution: []", "execution: [fast]", r"execution.0: must be 'compile', 'channels_last' or 'checkpointing'"),
        ("tasks.yaml", "oedema: [2]", "oedema: [1]", r"label values occur twice in 'labels' and 'ignore': \[1\]"),
        ("tasks.yaml", "ignore: [2]", "ignore: [1]", r"label values occur twice"),
        ("tasks.yaml", "lesions: [wmh]", "lesions: [wnh]", r"'lesions' lists names that are not in 'labels': wnh"),
        ("finetune.yaml", "steps: 2500", "epochs: 100", r"phases of a fine-tuning in epochs need 'epoch_steps'"),
        ("finetune.yaml", "decay: cosine", "decay: poly", r"'poly' needs it"),
        ("finetune.yaml", "{steps: 2500, lr", "{steps: 2500, warmup_steps: 2501, lr", r"phases.0: the warm-up is a part of its phase and cannot be longer \(line \d+\)\n"),
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5", "epochs: 4, warmup_epochs: 5", r"the warm-up is a part"),
        ("finetune.yaml", "decoder: linear", "decoder_options: {skips: true}", r"'decoder_options' goes with 'decoder'"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)


def test_a_task_may_be_stratified_by_site(config_dir):
    mine = "tasks: {wmh_flair_by_name: {like: wmh_flair, split: {stratify: null}}}"
    (config_dir / "mine.yaml").write_text(mine)
    tasks = config.load(config_dir).tasks
    assert (tasks["wmh_flair_by_name"].split.stratify, tasks["wmh_flair_by_name"].split.block) == (None, 20)
    assert tasks["wmh_flair"].split.stratify == "site"


def test_what_is_expected_is_not_inherited_and_in_no_recipe():
    backbones = config.load(ROOT / "config").backbones
    assert backbones["unet_b"].expected and not backbones["unet_tiny"].expected
    assert "expected" not in backbones["unet_b"].model_dump()


def test_a_note_is_in_no_recipe():
    assert "note" not in config.load(ROOT / "config").preprocess["amaes"].model_dump()
