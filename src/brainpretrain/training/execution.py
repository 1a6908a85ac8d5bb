"""Choices of how networks are computed in training. They change speed and memory, and the result only by rounding."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def apply(networks: Sequence[nn.Module], execution: Sequence[str]) -> None:
    """Changes encoder and decoders in place; tensor names stay as they are.

    Args:
        networks: encoder and decoders, before the optimiser gets their parameters.
        execution: any of `channels_last` (weights, and so feature maps, with channels innermost, which makes GPU convolutions
            in 16 bits faster), `checkpointing` (keeps the input of each part of a network and computes the part again in
            the backward pass) and `compile` (torch.compile).
    """
    for network in networks:
        if "channels_last" in execution:
            network.to(memory_format=torch.channels_last_3d)
        if "checkpointing" in execution:
            for part in parts(network):
                part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)
        if "compile" in execution:
            network.compile()


def parts(network: nn.Module) -> list[nn.Module]:
    """The modules that a network runs one after another: its children, or those of its only child. Lists and sequences
    are opened.

    A sequence of plain layers is one part, since checkpointing each layer would save nothing.
    """
    if isinstance(network, nn.ModuleList | nn.Sequential):
        return _opened(network)
    children = list(network.children())
    if len(children) == 1 and not isinstance(children[0], nn.ModuleList | nn.Sequential):
        children = list(children[0].children())
    return [part for child in children for part in _opened(child)]


def _opened(module: nn.Module) -> list[nn.Module]:
    """The blocks inside a list, or inside a sequence that has blocks; any other module is one part."""
    blocks = any(list(child.children()) for child in module.children())
    if isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and blocks):
        return [part for child in module for part in _opened(child)]
    return [module]


def align(optimizer: torch.optim.Optimizer) -> None:
    """Gives optimiser state the memory layout of its parameters, which fused optimisers rely on.

    State from a checkpoint is contiguous; parameters in channels-last layout are not.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)
