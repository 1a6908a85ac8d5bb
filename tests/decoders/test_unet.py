import pytest
import torch

from networks import LIGHT, STANDARD, network


def test_skips_matter_only_where_asked():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16, 16)
    for options, differs in ((STANDARD, True), (LIGHT, False)):
        found = network("unet_tiny", 1, "unet", options, meta=False)
        features = found.encoder(image)
        other = [torch.zeros_like(f) for f in features[:-1]] + features[-1:]
        assert torch.equal(found.decoder(features, image), found.decoder(other, image)) is not differs


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
