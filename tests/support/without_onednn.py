"""A plugin of pytest for processors on which torch computes convolutions without oneDNN: `pytest -p without_onednn`."""

import torch

torch.backends.mkldnn.enabled = False
