import json
import re

import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from helpers import ROOT, edit

STUDIES = sorted(path.stem for path in (ROOT / "config" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_is_valid(study):
    assert config.load(ROOT / "config", {"study": study}).study_name == study


def test_the_schema_on_file_is_the_schema_of_the_models():
    on_file = json.loads((ROOT / "config" / "schema.json").read_text())
    assert on_file == json.loads(json.dumps(config.schema())), "run `make schema`"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pretext.yaml", "mask_ratio: 0.6", "mask_rato: 0.6", r"options.mask_rato: unknown key[\s\S]*did you mean 'mask_ratio'"),
        ("pretext.yaml", "global_batch: 16", "globl_batch: 16", r"globl_batch: unknown key; did you mean 'global_batch'"),
        ("pretext.yaml", "weight_decay: 3.0e-5, betas", "weight_deca: 3.0e-5, betas", r"weight_deca: unknown key; did you mean 'weight_decay'"),
        ("pretext.yaml", "method: amaes", "method: amae", r"there is no pretext/amae.py[\s\S]*did you mean 'amaes'"),
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5, lr: 1.0e-4", "epochs: 100, warmup: 5, lr: 1.0e-4", r"unknown key; did you mean 'warmup"),
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5, lr: 1.0e-4", "warmup_epochs: 5, lr: 1.0e-4", "needs either 'steps' or 'epochs'"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: '6e-1'", r"options.mask_ratio: '6e-1' is no number"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: [0.3, '9e-1']", r"options.mask_ratio: \[0.3, '9e-1'\] is no list of numbers"),
        ("backbones.yaml", "blocks: [3, 4, 4, 4, 4]", "blocks: 3", r"options.blocks: 3 is no list of numbers"),
        ("backbones.yaml", "levels: 5", "levels: [5]", r"options.levels: \[5\] is no number"),
        ("backbones.yaml", "{pretext: amaes, parameters: 17879617", "{pretext: amaes, classes: 2, parameters: 17879617", r"either 'pretext' or 'classes'"),
        ("config.yaml", "execution: []", "execution: [fast]", r"execution.0: Input should be 'compile', 'channels_last' or 'checkpointing'"),
        ("pretext.yaml", "decoder: unet", "decoder: unett", r"there is no decoders/unett\.py[\s\S]*did you mean 'unet'"),
        ("pretext.yaml", "skips: false", "skip: false", r"decoder_options.skip: unknown key[\s\S]*did you mean 'skips'"),
        ("tasks.yaml", "oedema: [2]", "oedema: [1]", r"label values stand twice in 'labels' and 'ignore': \[1\]"),
        ("tasks.yaml", "ignore: [2]", "ignore: [1]", r"label values stand twice"),
        ("tasks.yaml", "lesions: [wmh]", "lesions: [wnh]", r"'lesions' names what is not in 'labels': wnh"),
        ("tasks.yaml", "    nsd_tolerance_mm: 1\n", "", r"nsd_tolerance_mm: missing"),
        ("tasks.yaml", "nsd_tolerance_mm: 2", "nsd_tolerance_mm: 0", r"greater than 0 \(found 0\)"),
        ("tasks.yaml", "seed: 4215532", "seed: -1", r"greater than or equal to 0 \(found -1\)"),
        ("finetune.yaml", "steps: 2500", "epochs: 100", r"phases of a fine-tuning are given in steps"),
        ("finetune.yaml", "decay: cosine", "decay: poly", r"'poly' needs it"),
        ("finetune.yaml", "{steps: 2500, lr", "{steps: 2500, warmup_steps: 2501, lr", r"phases.0: the warm-up is a part of its phase and cannot be longer\n"),
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5", "epochs: 4, warmup_epochs: 5", r"the warm-up is a part"),
        ("tables.yaml", "    n_train: 20", "    n_train: al", r"^n_train: a number from 1, or 'all' \(found 'al'\)\n"),
        ("finetune.yaml", "foreground_fraction: 0.33", "foreground_fraction: 33", r"less than or equal to 1 \(found 33\)"),
        ("finetune.yaml", "precision: 16-mixed", "precision: fp16", r"'16-mixed' \(found 'fp16'\)"),
        ("finetune.yaml", "decoder: linear", "decoder: linaer", r"finetune.amaes_linear[\s\S]*did you mean 'linear'"),
        ("finetune.yaml", "decoder: linear", "decoder_options: {skips: true}", r"'decoder_options' goes with 'decoder'"),
        ("finetune.yaml", "decoder: linear", "decoder: linear\n    decoder_options: {skips: true}", r"decoder_options.skips: unknown key"),
        ("finetune.yaml", "train: decoder}", "train: stem}", r"'decoder' or 'decoder_and_stem' \(found 'stem'\)"),
        ("finetune.yaml", "name: squared_dice_ce", "name: dice", r"'dice_ce' or 'squared_dice_ce' \(found 'dice'\)"),
        ("finetune.yaml", "precision: bf16-mixed", "stem: halve", r"'divide' or 'repeat' \(found 'halve'\)"),
        ("tables.yaml", "recipe: amaes", "recipe: amas", r"no entry 'amas' in 'finetune'[\s\S]*did you mean 'amaes'"),
        ("config.yaml", "study: amaes", "study: amaas", r"no study 'amaas'[\s\S]*did you mean 'amaes'"),
        ("config.yaml", "results: results", "result: results", r"result: unknown key; did you mean 'results'"),
        ("tasks.yaml", "tasks:", "task:", r"unknown key 'task'[\s\S]*did you mean 'tasks'"),
        ("studies/amaes.yaml", "folds: 6", "fold: 6", r"unknown key 'fold'[\s\S]*did you mean 'folds'"),
        ("preprocess.yaml", "like: amaes", "like: amas", r"'like: amas' names no entry[\s\S]*did you mean 'amaes'"),
        ("preprocess.yaml", "like: amaes", "like: [amaes]", r"'like: \['amaes'\]' names no entry"),
        ("preprocess.yaml", "like: amaes", "like: coarse_2mm", r"goes in a circle: coarse_2mm -> coarse_2mm"),
        ("preprocess.yaml", "crop: nonzero", "crop: nonzero\n    crop: none", r"key 'crop' stands twice"),
        ("preprocess.yaml", "crop: nonzero", "crop: [", "no valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    edit(config_dir / file, old, new)
    with pytest.raises(UserError, match=message) as caught:
        from brainpretrain.plan import tables as plan

        plan.make(config.load(config_dir))
    named = {"config.yaml": "studies"}.get(file, file) if "no study" in message else file
    assert named in str(caught.value) or "tables.table" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-4", 1e-4), ("-2E3", -2000.0), (".5e+1", 5.0), ("1.e0", 1.0), ("7", 7), ("1.5", 1.5)]
)
def test_numbers_are_read_as_in_any_language(tmp_path, text, number):
    (tmp_path / "a.yaml").write_text(f"a: {text}\nb: '{text}'\nc: {text} mm\n")
    assert config.read_yaml(tmp_path / "a.yaml") == {"a": number, "b": text, "c": f"{text} mm"}


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


def test_a_task_may_be_stratified_by_site(config_dir):
    mine = "tasks: {wmh_flair_by_name: {like: wmh_flair, split: {stratify: null}}}"
    (config_dir / "mine.yaml").write_text(mine)
    tasks = config.load(config_dir).tasks
    assert (tasks["wmh_flair_by_name"].split.stratify, tasks["wmh_flair_by_name"].split.block) == (None, 20)
    assert tasks["wmh_flair"].split.stratify == "site"


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


def test_a_backbone_may_change_a_pretext():
    loaded = config.load(ROOT / "config")
    assert loaded.pretext("amaes", "unet_b").global_batch == 16
    changed = loaded.pretext("amaes", "mednext_m")
    assert (changed.global_batch, changed.phases[0].lr, changed.optimizer.amsgrad) == (8, 5e-4, True)


def test_what_is_expected_is_not_inherited_and_in_no_recipe():
    backbones = config.load(ROOT / "config").backbones
    assert backbones["unet_b"].expected and not backbones["unet_tiny"].expected
    assert "expected" not in backbones["unet_b"].model_dump()


def test_a_note_is_in_no_recipe():
    assert "note" not in config.load(ROOT / "config").preprocess["amaes"].model_dump()


@pytest.mark.parametrize(
    "text",
    ["study: !!python/object/apply:os.system ['touch ran']", "__use_yte__: true\nstudy: ?__import__('os').system('touch ran')"],
)
def test_the_text_of_a_config_runs_no_code(config_dir, monkeypatch, text):
    monkeypatch.chdir(config_dir)
    (config_dir / "config.yaml").write_text(text)
    with pytest.raises(UserError):
        config.load(config_dir)
    assert not (config_dir / "ran").exists()


LEVELS = ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"x: [&a0 [1, 1], {LEVELS}]", "more than 200000 values, aliases written out"),
        ("x: &a [*a]", "an alias stands within what it is short for"),
        ("x: &a {like: *a}", "an alias stands within"),
        ("x: " + "[" * 60 + "]" * 60, "more than 40 levels"),
        ("x: " + "[" * 5000 + "]" * 5000, "more than 40 levels"),
        ("{? [a] : b}", "a key must be a word"),
        ("{[a, b]: c}", "a key must be a word"),
        ("!!map [a]", "no valid YAML"),
        ("!!map x", "no valid YAML"),
        ("x: !!int x", "no int: 'x'"),
        ("x: !!int ''", "no int: ''"),
        ("x: !!bool x", "no bool: 'x'"),
        ("x: 0b", None),
        ("x: 0x", None),
        ("x: !!binary YWJj", "could not determine a constructor"),
        ("x: !!set {a, b}", "could not determine a constructor"),
        ("x: !!timestamp 2001-99-99", "could not determine a constructor"),
        ("x: .nan", r"no number that can be used: \.nan"),
        ("x: 1.0e+999", "no number that can be used"),
        ("x: " + "9" * 30, "no number that can be used"),
        ("x: " + "9" * 5000, "no int: '9999"),
        ('x: "\\0"', "a character that is no text"),
        ('x: "\\ud800"', "a character that is no text|character escape code"),
        (b"x: \xff", "no valid YAML: 'utf-8' codec"),
        (b"x: 1\0", "no valid YAML"),
    ],
)
def test_yaml_that_nothing_could_use_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        content = config.read_yaml(path)
    except UserError as error:
        assert message and re.search(message, error.problem) and error.where == str(path) and error.fix
    else:
        assert message is None and content == {"x": text.removeprefix("x: ")}


def test_a_date_is_text(tmp_path):
    (tmp_path / "x.yaml").write_text("x: 2001-01-01\n")
    assert config.read_yaml(tmp_path / "x.yaml") == {"x": "2001-01-01"}


def test_a_file_that_is_no_config_is_not_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        config.read_yaml(tmp_path)
    with open(tmp_path / "x.yaml", "wb") as stream:
        stream.truncate(config.MAX_YAML_BYTES + 1)
    with pytest.raises(UserError, match="larger than 4 MiB"):
        config.read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("studies/amaes.yaml", "folds: 6", "folds: 1000000000", r"folds: Input should be less than or equal to 1000 \(found 1000000000\)"),
        ("tasks.yaml", "tasks:", "null:", "unknown key 'None'"),
        ("tasks.yaml", "tasks:", "tasks:\n  1: {}", "'tasks' has an entry called 1"),
    ],
)  # fmt: skip
def test_odd_names_and_numbers_are_refused(config_dir, file, old, new, message):
    edit(config_dir / file, old, new)
    with pytest.raises(UserError, match=message):
        config.load(config_dir)


def test_settings_from_the_command_line_win():
    assert config.load(ROOT / "config", {"study": "demo", "data_root": "/data"}).data_root("ixi") == "/data/ixi"
    assert config.load(ROOT / "config", {"data_roots": {"ixi": "/x"}}).data_root("ixi") == "/x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mirror": ["x", "w"]}, r"mirror\.1: "),
        ({"mirror": ["x", "x"]}, "an axis stands twice in 'mirror'"),
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
