import pytest
import torch

from brainpretrain import backbones, decoders
from brainpretrain.backbones.base import parameters
from brainpretrain.errors import UserError
from networks import ENTRIES, LIGHT, STANDARD, network


def test_tensors_of_the_authors_unet():
    assert len(network("unet_b", 1, "unet", LIGHT).state_dict()) == 66
    assert len(network("unet_b", 1).state_dict()) == 82
    assert len(network("mednext_l", 1).encoder.state_dict()) == 290


@pytest.mark.parametrize(
    ("backbone", "kind", "options"),
    [
        ("unet_tiny", "unet", STANDARD),
        ("unet_tiny", "unet", LIGHT),
        ("mednext_tiny", "unet", STANDARD),
        ("mednext_tiny", "mednext", {}),
        ("swinunetr_tiny", "unet", STANDARD),
        ("swinunetr_tiny", "swinunetr", {}),
        ("resenc_tiny", "unet", LIGHT | {"skips": True}),
        ("unetr_tiny", "unet", STANDARD),
        ("unetr_tiny", "unetr", {"feature_size": 4}),
        ("unetr_mae_tiny", "unetr", {"feature_size": 4}),
        ("primus_tiny", "unet", STANDARD),
        ("primus_tiny", "primus", {}),
        ("unet_tiny", "linear", {}),
        ("mednext_tiny", "linear", {}),
        ("resenc_tiny", "linear", {}),
        ("swinunetr_tiny", "linear", {}),
        ("unetr_tiny", "linear", {}),
        ("primus_tiny", "linear", {}),
    ],
)
def test_logits_are_at_full_resolution_and_reach_every_parameter(backbone, kind, options):
    torch.manual_seed(0)
    found = network(backbone, 3, kind, options, meta=False)
    d = found.encoder.divisor
    logits = found(torch.rand(1, 1, 2 * d, d, d))
    assert logits.shape == (1, 3, 2 * d, d, d)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in found.parameters())
    assert not any(getattr(module, "inplace", False) for module in found.modules())


def test_the_encoders_counts_by_level():
    unet_b, mednext_m = network("unet_b", 1, "unet", STANDARD), network("mednext_m", 1)
    assert [parameters(stage) for stage in unet_b.encoder.stages] == [28_704, 166_272, 664_320, 2_655_744, 10_619_904]
    ups = [(parameters(stage.up), parameters(stage.convs)) for stage in unet_b.decoder.stages]
    assert ups == [(1_048_832, 5_309_952), (262_272, 1_327_872), (65_600, 332_160), (16_416, 83_136)]
    assert parameters(unet_b.decoder.head) == 33
    assert parameters(mednext_m.encoder.stem) == 64
    assert [parameters(stage) for stage in mednext_m.encoder.stages] == [15_456, 107_008, 542_208, 2_132_992, 8_460_288]
    assert [parameters(down) for down in mednext_m.encoder.downs] == [12_448, 59_776, 234_240, 927_232]
    light = network("unet_b", 1, "unet", LIGHT)
    assert [parameters(stage.convs) for stage in light.decoder.stages] == [1_770_240, 442_752, 110_784, 27_744]


def test_resenc_l_with_other_channels():
    entry = ENTRIES["resenc_l"]
    with torch.device("meta"):
        for channels, classes, total in ((1, 1, 102_348_965), (4, 4, 102_353_972), (1, 31, 102_373_115)):
            encoder = backbones.build("resenc", channels, **entry.options)
            decoder = decoders.build("unet", encoder, classes, **entry.decoder_options)
            assert parameters(encoder) + parameters(decoder) == total
        # S3D's densifying convs and mask tokens are not in it
        assert [parameters(stage) for stage in encoder.stages] == [55_488, 611_584, 3_329_280, 20_391_424, 32_718_720, 33_189_120]


def test_decoders_that_do_not_fit_are_refused():
    entry = ENTRIES["unet_tiny"]
    encoder = backbones.build("unet", 1, **entry.options)
    with pytest.raises(UserError, match="mirrors a MedNeXt"):
        decoders.build("mednext", encoder, 2)
    with pytest.raises(UserError, match="reads a Swin"):
        decoders.build("swinunetr", encoder, 2)
    with pytest.raises(UserError, match="reads a UNETR"):
        decoders.build("unetr", encoder, 2, feature_size=4)
    with pytest.raises(UserError, match=r"heads 5 for 4 levels[\s\S]*give 1 to 4"):
        decoders.build("unet", encoder, 2, heads=5, **LIGHT)
    with pytest.raises(UserError, match="did you mean 'unet"):
        decoders.build("u-net", encoder, 2)
    with pytest.raises(UserError, match="did you mean 'skips'"):
        decoders.build("unet", encoder, 2, convs_per_stage=1, skip=True)
