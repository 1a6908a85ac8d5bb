"""AMAES' network and training step, reimplemented from its paper and code, for the parties that measure it.

As in its code: in-place LeakyReLU after the norm, the asserts on the smallest and largest voxel, the mask from sorted
noise, AdamW with torch's defaults.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

TOKEN, MASKED = 4, 0.6  # side of a hidden block, share of them


def block(n_in: int, n_out: int) -> nn.Sequential:
    """Convolution, instance norm, leaky ReLU in place."""
    return nn.Sequential(nn.Conv3d(n_in, n_out, 3, padding=1), nn.InstanceNorm3d(n_out, affine=True), nn.LeakyReLU(inplace=True))


class Network(nn.Module):
    """U-Net encoder with two convolutions per level and the light decoder: one per level, no skips."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        pairs = zip([1, *widths], widths, strict=False)
        self.encoder = nn.ModuleList(nn.Sequential(block(a, b), block(b, b)) for a, b in pairs)
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in steps)
        self.decoder = nn.ModuleList(block(b, b) for _, b in steps)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for level, stage in enumerate(self.encoder):
            x = stage(F.max_pool3d(x, 2) if level else x)
        for up, stage in zip(self.ups, self.decoder, strict=True):
            x = stage(up(x))
        return self.head(x)


class Training:
    """A network that is being trained.

    Args:
        optimizer: options of AdamW.
        mixed: bfloat16 by autocast, as in the paper; else float32.
    """

    def __init__(self, width: int, levels: int, optimizer: Mapping, mixed: bool) -> None:
        torch.manual_seed(0)
        self.mixed = mixed
        self.network = Network(width, levels)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), **optimizer)

    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def step(self, samples: Sequence[Mapping[str, torch.Tensor]]) -> float:
        """One step on samples with `image` and `label` (1 x y z); returns the loss."""
        x, y = (torch.stack([sample[key] for sample in samples]) for key in ("image", "label"))
        assert x.min() >= 0 and x.max() <= 1
        grid = [n // TOKEN for n in x.shape[2:]]
        tokens = grid[0] * grid[1] * grid[2]
        order = torch.argsort(torch.randn(len(x), tokens), dim=1)
        visible = torch.argsort(order, dim=1) < int(tokens * (1 - MASKED))
        mask = F.interpolate(visible.view(len(x), 1, *grid).float(), scale_factor=TOKEN, mode="nearest")
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            output = self.network(x * mask)
            assert output.shape == y.shape
            loss = F.mse_loss(output, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
