import pytest

from mistakes import refused


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pretext.yaml", "global_batch: 16", "globl_batch: 16", r"globl_batch: unknown key; did you mean 'global_batch'"),
        ("pretext.yaml", "weight_decay: 3.0e-5, betas", "weight_deca: 3.0e-5, betas", r"weight_deca: unknown key; did you mean 'weight_decay'"),
        ("pretext.yaml", "epochs: 100, warmup_epochs: 5, lr: 1.0e-4", "epochs: 100, warmup: 5, lr: 1.0e-4", r"unknown key; did you mean 'warmup"),
        ("tasks.yaml", "    nsd_tolerance_mm: 1\n", "", r"nsd_tolerance_mm: missing"),
        ("tasks.yaml", "nsd_tolerance_mm: 2", "nsd_tolerance_mm: 0", r"greater than 0 \(found 0\)"),
        ("tasks.yaml", "seed: 4215532", "seed: -1", r"greater than or equal to 0 \(found -1\)"),
        ("tables.yaml", "    n_train: 20", "    n_train: al", r"^n_train: a number from 0, or 'all' \(found 'al'\) \(line \d+\)\n"),
        ("finetune.yaml", "foreground_fraction: 0.33", "foreground_fraction: 33", r"less than or equal to 1 \(found 33\)"),
        ("finetune.yaml", "precision: 16-mixed", "precision: fp16", r"'16-mixed' \(found 'fp16'\)"),
        ("finetune.yaml", "train: decoder}", "train: stem}", r"'decoder' or 'decoder_and_stem' \(found 'stem'\)"),
        ("finetune.yaml", "name: squared_dice_ce", "name: dice", r"'dice_ce' or 'squared_dice_ce' \(found 'dice'\)"),
        ("finetune.yaml", "precision: bf16-mixed", "stem: halve", r"'divide', 'repeat' or 'random' \(found 'halve'\)"),
        ("config.yaml", "results: results", "result: results", r"result: unknown key; did you mean 'results'"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)
