import torch

from brainpretrain.backbones.base import parameters
from networks import network


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
