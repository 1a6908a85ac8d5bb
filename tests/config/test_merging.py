import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from helpers import ROOT
from mistakes import refused


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("preprocess.yaml", "like: amaes", "like: amas", r"'like: amas' names no entry[\s\S]*did you mean 'amaes'"),
        ("preprocess.yaml", "like: amaes", "like: [amaes]", r"'like: \['amaes'\]' names no entry"),
        ("preprocess.yaml", "coarse_2mm:\n    like: amaes", "coarse_2mm:\n    like: coarse_2mm", r"goes in a circle: coarse_2mm -> coarse_2mm"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)


@pytest.mark.parametrize(
    "entry",
    [
        "finetune: {amaes: {precision: bf16-mixed}}",
        "finetune: {amaes: {like: nnunet}}",
        "preprocess: {amaes: {like: amaes, crop: none}}",
    ],
)
def test_a_study_redefines_no_entry_in_silence_and_none_whose_results_other_studies_share(config_dir, entry):
    with open(config_dir / "studies" / "amaes.yaml", "a") as stream:
        stream.write(entry + "\n")
    with pytest.raises(UserError, match=r"is defined in .* and again here"):
        config.load(config_dir)


def test_a_study_changes_an_entry_for_itself_by_starting_from_it(config_dir):
    with open(config_dir / "studies" / "amaes.yaml", "a") as stream:
        stream.write("finetune: {amaes: {like: amaes, precision: bf16-mixed}}\ntables: {table4: {like: table4, n_train: 40}}\n")
    plain, changed = config.load(ROOT / "config"), config.load(config_dir)
    assert changed.finetune["amaes"] == plain.finetune["amaes"].model_copy(update={"precision": "bf16-mixed", "note": ""})
    assert changed.tables["table4"].n_train == 40 and changed.tables["table4"].rows == plain.tables["table4"].rows


def test_like_merges_mapping_by_mapping_and_drops_the_note():
    recipe = config.load(ROOT / "config").pretexts["amaes_skips_noaug"]
    assert recipe.options["decoder_options"] == {"convs_per_stage": 2, "skips": True}
    assert recipe.options["mask_size"] == 4 and recipe.augmentation == "none"


def test_classes_replace_those_they_start_from(config_dir):
    with open(config_dir / "tasks.yaml", "a") as stream:
        stream.write("  whole: {like: brats21_flair, labels: {whole: [1, 2, 4]}}\n")
    assert config.load(config_dir).tasks["whole"].labels == {"whole": [1, 2, 4]}


def test_another_optimiser_or_method_starts_without_the_options_of_the_old_one(config_dir):
    with open(config_dir / "finetune.yaml", "a") as stream:
        stream.write("  sgd: {like: amaes, optimizer: {name: sgd, weight_decay: 3.0e-5, momentum: 0.99, nesterov: true}}\n")
        stream.write("  slow: {like: amaes, optimizer: {weight_decay: 0.0}}\n")
    loaded = config.load(config_dir).finetune
    assert loaded["sgd"].optimizer.momentum == 0.99
    assert loaded["slow"].optimizer.amsgrad and loaded["slow"].optimizer.weight_decay == 0
