import pytest

from mistakes import refused


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pretext.yaml", "mask_ratio: 0.6", "mask_rato: 0.6", r"options.mask_rato: unknown key[\s\S]*did you mean 'mask_ratio'"),
        ("pretext.yaml", "method: amaes", "method: amae", r"there is no pretext/amae.py[\s\S]*did you mean 'amaes'"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: '6e-1'", r"options.mask_ratio: '6e-1' is not a number"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: [0.3, '9e-1']", r"options.mask_ratio: \[0.3, '9e-1'\] is not a list of numbers"),
        ("backbones.yaml", "blocks: [3, 4, 4, 4, 4]", "blocks: 3", r"options.blocks: 3 is not a list of numbers"),
        ("backbones.yaml", "levels: 5", "levels: [5]", r"options.levels: \[5\] is not a number"),
        ("pretext.yaml", "decoder: unet", "decoder: unett", r"there is no decoders/unett\.py[\s\S]*did you mean 'unet'"),
        ("pretext.yaml", "skips: false", "skip: false", r"decoder_options.skip: unknown key[\s\S]*did you mean 'skips'"),
        ("finetune.yaml", "decoder: linear", "decoder: linaer", r"finetune.amaes_linear[\s\S]*did you mean 'linear'"),
        ("finetune.yaml", "decoder: linear", "decoder: linear\n    decoder_options: {skips: true}", r"decoder_options.skips: unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)
