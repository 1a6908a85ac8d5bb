import torch
from monai.networks.nets.unetr import UNETR

from brainpretrain import backbones, decoders
from brainpretrain.backbones import unetr


def test_unetr_is_monais():
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
