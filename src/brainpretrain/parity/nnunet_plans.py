"""Plans that nnU-Net made: an export of the same network has a plan with the same network, patch, spacing and normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from brainpretrain import backbones, named
from brainpretrain.parity.compare import Line, exact
from brainpretrain.weights import exporting


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return any(True for _ in _configurations(content))


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for every configuration in three dimensions. Of a 2-D one there is no network here."""
    for name, recorded in _configurations(content):
        kwargs = recorded["arch_kwargs"]
        if len(recorded["patch_size"]) != 3:
            continue
        plan = exporting.nnunet_plan(*_encoder(kwargs), _facts(recorded))
        found = plan["configurations"][exporting.CONFIGURATION]
        ours = found["architecture"]["arch_kwargs"]
        shared = {key: value for key, value in kwargs.items() if value is not None}
        for key, value in shared.items():
            yield exact(f"{name}: {key}", ours.get(key), value)
        for key in ("patch_size", "spacing", "normalization_schemes", "use_mask_for_norm"):
            yield exact(f"{name}: {key}", found[key], recorded[key])
        own_class = found["architecture"]["network_class_name"].rpartition(".")[2]
        if kwargs.get("n_blocks_per_stage"):  # for the plain U-Net the class is ours, since it pools
            yield exact(f"{name}: network", own_class, recorded["network"])


def _configurations(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configurations of all plans in a fixture, by plan and name."""
    for key, plan in content.items():
        if isinstance(plan, Mapping) and "experiment_planner_used" in plan and isinstance(plan.get("configurations"), Mapping):
            for name, recorded in plan["configurations"].items():
                yield f"{key}, {name}", recorded


def _encoder(kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Our encoder of a recorded network, and its description for nnU-Net."""
    widths, blocks = kwargs["features_per_stage"], kwargs.get("n_blocks_per_stage")
    with torch.device("meta"):
        if blocks:
            encoder = backbones.build("resenc", 1, widths=widths, blocks=blocks)
        else:
            (convs,) = set(kwargs["n_conv_per_stage"])
            encoder = backbones.build("unet", 1, width=widths[0], levels=len(widths), convs_per_stage=convs)
    return encoder, named.module("backbones", "resenc" if blocks else "unet").nnunet_architecture(encoder)


def _facts(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder for these data would say of its volumes, in x y z."""
    zscore = set(recorded["normalization_schemes"]) == {"ZScoreNormalization"}
    return {
        "preprocess": {"spacing_mm": recorded["spacing"][::-1]},
        "patch_size": recorded["patch_size"][::-1],
        "intensity": "zscore" if zscore else "unit",
    }
