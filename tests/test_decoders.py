from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, config, decoders
from brainpretrain.backbones import unetr
from brainpretrain.counts import parameters
from brainpretrain.errors import UserError

ENTRIES = config.load(Path(__file__).parents[1] / "config").backbones
LIGHT = {"convs_per_stage": 1, "skips": False}
STANDARD = {"convs_per_stage": 2, "skips": True}


def network(backbone: str, classes: int, kind: str | None = None, options: dict | None = None, meta: bool = True):
    """Segmenter of a config entry."""
    entry = ENTRIES[backbone]
    with torch.device("meta" if meta else "cpu"):
        encoder = backbones.build(entry.architecture, 1, **entry.options)
        decoder = decoders.build(
            kind or entry.decoder, encoder, classes, **(entry.decoder_options if options is None else options)
        )
    return decoders.Segmenter(encoder, decoder)


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
        ("unet_tiny", "linear", {}),
        ("mednext_tiny", "linear", {}),
        ("resenc_tiny", "linear", {}),
        ("swinunetr_tiny", "linear", {}),
        ("unetr_tiny", "linear", {}),
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


def test_a_linear_probe_is_one_convolution_of_all_enlarged_feature_maps():
    torch.manual_seed(0)
    found = network("unet_tiny", 3, "linear", {}, meta=False).double()
    image = torch.rand(2, 1, 16, 8, 24, dtype=torch.float64)
    features = found.encoder(image)
    side_by_side = torch.cat([torch.nn.functional.interpolate(f, size=(16, 8, 24), mode="trilinear") for f in features], dim=1)
    weight = torch.cat([head.weight for head in found.decoder.heads], dim=1)
    assert parameters(found.decoder) == 3 * sum(found.encoder.channels) + 3
    wanted = torch.nn.functional.conv3d(side_by_side, weight, found.decoder.heads[0].bias)
    torch.testing.assert_close(found(image), wanted)


def test_skips_matter_only_where_asked():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16, 16)
    for options, differs in ((STANDARD, True), (LIGHT, False)):
        found = network("unet_tiny", 1, "unet", options, meta=False)
        features = found.encoder(image)
        other = [torch.zeros_like(f) for f in features[:-1]] + features[-1:]
        assert torch.equal(found.decoder(features, image), found.decoder(other, image)) is not differs


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


@pytest.mark.parametrize(("backbone", "heads"), [("unet_tiny", 4), ("resenc_tiny", 2), ("unetr_tiny", 3)])
def test_deep_supervision_has_an_output_per_level_in_training_alone(backbone, heads):
    torch.manual_seed(0)
    found = network(backbone, 3, "unet", STANDARD | {"heads": heads}, meta=False)
    d = found.encoder.divisor
    image = torch.rand(1, 1, 2 * d, d, d)
    outputs = found(image)
    assert [tuple(x.shape) for x in outputs] == [(1, 3, 2 * d // 2**i, d // 2**i, d // 2**i) for i in range(heads)]
    sum(x.square().mean() for x in outputs).backward()
    assert all(p.grad is not None for p in found.parameters())
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(image), outputs[0])


def test_skips_are_the_maps_of_other_strides():
    torch.manual_seed(0)
    found = network("unetr_tiny", 1, "unet", STANDARD, meta=False)
    assert [tuple(stage.up.weight.shape[:2]) for stage in found.decoder.stages] == [(24, 12), (12, 6), (6, 3), (3, 1)]
    features = found.encoder(torch.rand(1, 1, 32, 16, 16))
    other = [torch.zeros_like(f) for f in features[:-1]] + features[-1:]
    assert torch.equal(found.decoder(features, torch.empty(0)), found.decoder(other, torch.empty(0)))


def test_unetr_is_monais():
    from monai.networks.nets.unetr import UNETR

    torch.manual_seed(0)
    options = {"width": 24, "depth": 12, "num_heads": 2, "mlp_width": 48, "image_size": [32, 32, 16]}
    theirs = UNETR(2, 3, (32, 32, 16), feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2).eval()
    encoder = backbones.build("unetr", 2, **options)
    ours = decoders.Segmenter(encoder, decoders.build("unetr", encoder, 3, feature_size=4)).eval()
    tensors = theirs.state_dict()
    vit = {own: tensors.pop("vit." + unetr.reference_name(own)) for own in encoder.state_dict()}
    rest = {"decoder." + name: tensors.pop(name) for name in list(tensors) if not name.startswith("vit.")}
    ours.load_state_dict({"encoder." + name: tensor for name, tensor in vit.items()} | rest, strict=True)
    assert all("norm_cross_attn" in name for name in tensors) and len(tensors) == 24  # in no forward pass
    image = torch.rand(2, 2, 32, 32, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(image), theirs.double()(image))


def test_swinunetr_is_monais():
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(0)
    options = ENTRIES["swinunetr_tiny"].options
    theirs = SwinUNETR(1, 2, **options).eval()
    ours = network("swinunetr_tiny", 2, meta=False).eval()
    swin = {"encoder.swin." + k.removeprefix("swinViT."): v for k, v in theirs.state_dict().items() if "swinViT" in k}
    rest = {"decoder." + k: v for k, v in theirs.state_dict().items() if "swinViT" not in k}
    ours.load_state_dict(swin | rest, strict=True)
    image = torch.rand(1, 1, 64, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(image), theirs.double()(image))


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
