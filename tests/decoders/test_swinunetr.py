import torch
from monai.networks.nets import SwinUNETR

from networks import ENTRIES, network


def test_swinunetr_is_monais():
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
