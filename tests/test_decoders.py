from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, config, decoders
from brainpretrain.errors import UserError

ENTRIES = config.load(Path(__file__).parents[1] / "config").backbones
LIGHT = {"convs_per_stage": 1, "skips": False}
STANDARD = {"convs_per_stage": 2, "skips": True}


def network(backbone: str, classes: int, kind: str | None = None, options: dict | None = None, meta: bool = True):
    """Segmenter of a config entry; on the meta device unless MONAI's transformer, which cannot be built there."""
    entry = ENTRIES[backbone]
    with torch.device("meta" if meta and entry.architecture != "swinunetr" else "cpu"):
        encoder = backbones.build(entry.architecture, 1, **entry.options)
        decoder = decoders.build(
            kind or entry.decoder, encoder, classes, **(entry.decoder_options if options is None else options)
        )
    return decoders.Segmenter(encoder, decoder)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "classes", "kind", "options", "encoder", "total"),
    [
        ("unet_b", 1, "unet", LIGHT, 14_134_944, 17_879_617),
        ("unet_b", 1, "unet", {"convs_per_stage": 2, "skips": False}, 14_134_944, 20_231_137),
        ("unet_b", 1, "unet", {"convs_per_stage": 1, "skips": True}, 14_134_944, 20_229_697),
        ("unet_b", 2, None, None, 14_134_944, 22_581_250),
        ("unet_b", 4, None, None, 14_134_944, 22_581_316),
        ("unet_xl", 1, "unet", LIGHT, 56_526_144, 71_500_929),
        ("unet_xl", 1, "unet", {"convs_per_stage": 2, "skips": False}, 56_526_144, 80_904_129),
        ("unet_xl", 1, "unet", {"convs_per_stage": 1, "skips": True}, 56_526_144, 80_901_249),
        ("unet_xl", 2, None, None, 56_526_144, 90_304_514),
        ("mednext_m", 1, "unet", LIGHT, 12_491_712, 16_236_385),
        ("mednext_m", 2, None, None, 12_491_712, 20_938_018),
        ("mednext_m", 2, "mednext", {}, 12_491_712, 17_548_962),
        ("mednext_l", 1, "unet", LIGHT, 46_752_320, 50_496_993),
        ("mednext_l", 2, None, None, 46_752_320, 55_198_626),
        ("mednext_l_mednext_dec", 2, None, None, 46_752_320, 61_779_266),
        ("swinunetr", 2, None, None, 8_062_002, 62_186_708),
    ],
)
def test_parameters(backbone, classes, kind, options, encoder, total):
    found = network(backbone, classes, kind, options)
    assert (count(found.encoder), count(found)) == (encoder, total)


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


def test_skips_matter_only_where_asked():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16, 16)
    for options, differs in ((STANDARD, True), (LIGHT, False)):
        found = network("unet_tiny", 1, "unet", options, meta=False)
        features = found.encoder(image)
        other = [torch.zeros_like(f) for f in features[:-1]] + features[-1:]
        assert torch.equal(found.decoder(features, image), found.decoder(other, image)) is not differs


def test_swinunetr_is_monais():
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(0)
    options = ENTRIES["swinunetr_tiny"].options
    theirs = SwinUNETR(1, 2, **options).eval()
    ours = network("swinunetr_tiny", 2).eval()
    swin = {"encoder.swin." + k.removeprefix("swinViT."): v for k, v in theirs.state_dict().items() if "swinViT" in k}
    rest = {"decoder." + k: v for k, v in theirs.state_dict().items() if "swinViT" not in k}
    ours.load_state_dict(swin | rest, strict=True)
    image = torch.rand(1, 1, 64, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))


def test_decoders_that_do_not_fit_are_refused():
    entry = ENTRIES["unet_tiny"]
    encoder = backbones.build("unet", 1, **entry.options)
    with pytest.raises(UserError, match="mirrors a MedNeXt"):
        decoders.build("mednext", encoder, 2)
    with pytest.raises(UserError, match="reads a Swin"):
        decoders.build("swinunetr", encoder, 2)
    with pytest.raises(UserError, match="did you mean 'unet'"):
        decoders.build("u-net", encoder, 2)
    with pytest.raises(UserError, match="did you mean 'skips'"):
        decoders.build("unet", encoder, 2, convs_per_stage=1, skip=True)
