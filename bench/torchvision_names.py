"""Imported before a package that needs only the Python parts of torchvision, which may have been built for another torch.

yucca 2 and gardening_tools import torchvision for the blur of slices, which no volume meets. Some package indexes have it
only with CUDA; with a torch without CUDA its compiled operators do not load and it cannot be imported. Their names are
then declared without a body: the measured code never calls them, and a call would fail.
"""

import torch

try:
    import torchvision  # noqa: F401 - whether it can be imported is the question
except RuntimeError:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float overlap) -> Tensor")
