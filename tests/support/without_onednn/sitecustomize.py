"""Every Python process with this folder in PYTHONPATH computes convolutions without oneDNN, as torch does on processors it does not know."""

import torch

torch.backends.mkldnn.enabled = False
