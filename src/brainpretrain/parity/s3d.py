"""S3D: features, densified maps, reconstruction, loss and gradients of the authors' program, for given masks and fillings.

Each case is run twice, on packed blocks and on whole maps times the mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from brainpretrain import backbones, pretext
from brainpretrain.backbones.base import parameters
from brainpretrain.backbones.resenc import nnunet_names
from brainpretrain.masking import hidden_mean, spread_blocks
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import FLOAT, Line, exact, figures, summary
from brainpretrain.sparse import Cells

_MAP_ROUNDINGS, _GRADIENT_ROUNDINGS = 10, 30  # how many times this program's rounding another's may be: the worst voxel; one norm
_UNDETERMINED = 0.1
_MAPS = 10 * FLOAT  # norms of few voxels enlarge rounding: the fixtures' author has 7e-5 between two programs of one formula
_GRADIENT = 5e-3  # relative: a leaky ReLU turns the last digit of a value near 0 into another slope
_VANISHES = 1e-5  # a gradient that is so much smaller in 64 bits is 0 in exact arithmetic: that of a bias in front of a norm
_WAYS = {True: "packed", False: "masked"}


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return all(key in content for key in ("widths", "blocks_per_stage", "tensors", "cases")) and any(
        name.startswith("mask_tokens") for name in content["tensors"]
    )


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for parameters, for each case on both ways to compute, and for the variant with tokens alone."""
    shape = content["input"]["shape"]
    image = torch.from_numpy(formulas.image(content["filling"]["image"], shape).astype(np.float32))
    yield from _parameters(content)
    for case in content["cases"]:
        for packed in _WAYS:
            yield from _case(content, case, image, packed)
    if variant := content.get("efficient_variant"):
        case = next((c for c in content["cases"] if c["name"].startswith("paper")), content["cases"][-1])
        for packed in _WAYS:
            task, _ = _task(content, case, "tokens", packed)
            with torch.no_grad():
                output, loss = _output(task, image, *_mask(case, shape))[2:]
            yield summary(f"tokens alone, {_WAYS[packed]}: output", output, variant["output"], _MAPS)
            yield figures(f"tokens alone, {_WAYS[packed]}: loss", loss.item(), variant["loss"])


def _parameters(content: Mapping[str, Any]) -> Iterator[Line]:
    """Counts; the heads of coarser levels, which are never used, do not exist here."""
    task, named = _task(content, content["cases"][0], "convolutions", True, fill=False)
    shapes = {name: list(tensor.shape) for name, tensor in named.items()}
    unused = {name: shape for name, shape in content["tensors"].items() if name not in shapes}
    given = {name: shape for name, shape in content["tensors"].items() if name in shapes}
    yield exact(
        "shapes of tensors", [str(shapes[name]) for name in sorted(shapes)], [str(given.get(name)) for name in sorted(shapes)]
    )
    if counts := content.get("parameters"):
        heads = sum(math.prod(shape) for shape in unused.values())
        parts = {"tokens": [0], "convolutions": [0]} | {
            kind: [p.numel() for name, p in task.densify.named_parameters() if name.startswith(kind)]
            for kind in ("tokens", "convolutions")
        }
        found = [
            parameters(task) + heads,
            parameters(task.encoder),
            parameters(task.decoder) + heads,
            sum(parts["convolutions"]),
            sum(parts["tokens"]),
        ]
        names = ("unique", "encoder", "decoder_with_all_heads", "densify_projs", "mask_tokens")
        yield exact("numbers of parameters", found, [counts[name] for name in names])


def _case(content: Mapping[str, Any], case: Mapping[str, Any], image: torch.Tensor, packed: bool) -> Iterator[Line]:
    name = f"{case['name']}, {_WAYS[packed]}"
    task, named = _task(content, case, "convolutions", packed)
    hidden, cells = _mask(case, image.shape)
    yield exact(f"{name}: visible cells", cells.counts, case["visible_cells"])
    first = cells.visible[0].flatten().nonzero().flatten().tolist()
    if wanted := case.get("first_visible_cells_of_sample_0"):
        yield exact(f"{name}: places of visible cells", first[: len(wanted)], wanted)
    if wanted := case.get("change_of_features_when_only_masked_voxels_change"):
        yield _change(f"{name}: features where only hidden voxels change", task, image, hidden, cells, wanted)
    found = _results(task, image, hidden, cells)
    gradients = {tensor: None if p.grad is None else p.grad.norm().item() for tensor, p in named.items()}
    unused = [tensor for tensor in content["tensors"] if tensor not in named]
    without = [tensor for tensor, gradient in gradients.items() if gradient is None]
    yield exact(f"{name}: tensors without a gradient", sorted(unused + without), sorted(case["without_gradient"]))
    task.zero_grad()
    better = _results(task.double(), image.double(), hidden, cells)
    for what in ("features", "densified"):
        levels = zip(found[what], better[what], case[what], strict=True)
        yield from (_map(f"{name}: {what}, level {level}", *figures) for level, figures in enumerate(levels))
    yield _map(f"{name}: output", found["output"], better["output"], case["output"])
    yield figures(f"{name}: loss", found["loss"].item(), case["loss"])
    for tensor, wanted in case["gradient_norms"].items():
        if gradients.get(tensor) is not None:
            yield _gradient(f"{name}: gradient of {tensor}", gradients[tensor], named[tensor].grad.norm().item(), wanted)


def _results(task: nn.Module, image: torch.Tensor, hidden: torch.Tensor, cells: Cells) -> dict[str, Any]:
    """Features, densified maps, output and loss, after a backward pass."""
    features, densified, output, loss = _output(task, image, hidden, cells)
    loss.backward()
    with torch.no_grad():
        maps = {"features": [_dense(x) for x in features], "densified": [_dense(x) for x in densified]}
    return {**maps, "output": output.detach(), "loss": loss.detach()}


def _map(group: str, found: torch.Tensor, better: torch.Tensor, wanted: Mapping[str, Any]) -> Line:
    """A map in 32 bits against the figures, with what rounding does to it: its distance from the same map in 64 bits.

    A norm of two voxels gives +1 and -1 whatever their difference is, so that a deep level of a small patch may be rounding
    and nothing else, in the authors' program as here.
    """
    line = summary(group, found, wanted, _MAPS)
    rounding = (found - better).abs().max().item() / max(1.0, wanted["std"])
    return _with(line, _MAP_ROUNDINGS * rounding)


def _gradient(group: str, found: float, better: float, wanted: float) -> Line:
    """The norm of a gradient, relative; one that vanishes in 64 bits is rounding, and must be as small as the recorded one."""
    if better <= _VANISHES * found:
        return Line(f"{group}, which is rounding", abs(found - wanted), 100 * found)
    return _with(Line(group, abs(found - wanted) / wanted, _GRADIENT), _GRADIENT_ROUNDINGS * abs(found - better) / wanted)


def _with(line: Line, rounding: float) -> Line:
    """The line with a tolerance of that much rounding, where it is more."""
    tolerance = max(line.tolerance, rounding)
    group = line.group if tolerance < _UNDETERMINED else f"{line.group}, not determined: rounding alone moves it"
    return Line(group, line.deviation, tolerance, line.figures)


def _change(
    group: str, task: nn.Module, image: torch.Tensor, hidden: torch.Tensor, cells: Cells, wanted: Sequence[float]
) -> Line:
    """Exactly 0 where it is 0 in the fixture; else only that there is a change, since the other image is not given."""
    other = torch.where(hidden, 1 - image, image)
    with torch.no_grad():
        both = [[_dense(x) for x in task.features(x, cells)] for x in (image, other)]
    changes = [(one - two).abs().max().item() for one, two in zip(*both, strict=True)]
    return exact(group, [change > 0 for change in changes], [change > 0 for change in wanted])


def _task(
    content: Mapping[str, Any], case: Mapping[str, Any], densify: str, packed: bool, fill: bool = True
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The task of a case, filled by the formula, and its tensors by the names of the fixture."""
    channels = content["input"]["shape"][1]
    encoder = backbones.build("resenc", channels, widths=content["widths"], blocks=content["blocks_per_stage"])
    task = pretext.build(
        "s3d", encoder, channels, mask_size=case["block"], mask_ratio=case["ratio"], masked_input=case["input_masked"],
        decoder="unet", decoder_options={"convs_per_stage": 1, "skips": True}, densify=densify, zscore=False, packed=packed,
    )  # fmt: skip
    named = {_reference(name, len(content["widths"])): tensor for name, tensor in task.named_parameters()}
    with torch.no_grad():
        for name, tensor in named.items() if fill else ():
            tensor.copy_(formulas.filling(name, list(tensor.shape)))
    return task, named


def _reference(name: str, levels: int) -> str:
    """The name of a tensor of the task in the fixture."""
    part, rest = name.split(".", 1)
    if part == "encoder":
        return f"encoder.{nnunet_names(rest)[0]}"
    if part == "decoder" and rest.startswith("head."):
        return f"decoder.seg_layers.{levels - 2}.{rest.removeprefix('head.')}"
    if part == "decoder":
        _, level, kind, rest = rest.split(".", 3)
        return f"decoder.transpconvs.{level}.{rest}" if kind == "up" else f"decoder.stages.{level}.convs.{rest}"
    kind, level, *tensor = rest.split(".")
    return f"mask_tokens.{level}" if kind == "tokens" else ".".join(["densify_projs", str(int(level) + 1), *tensor])


def _mask(case: Mapping[str, Any], shape: Sequence[int]) -> tuple[torch.Tensor, Cells]:
    """Hidden voxels bool (b 1 x y z), and the visible cells: those with the smallest noise are hidden."""
    grid = [n // case["block"] for n in shape[2:]]
    noise = formulas.seq(case["mask_name"], (shape[0], math.prod(grid)))
    hidden = np.zeros(noise.shape, dtype=bool)
    order = np.argsort(noise, axis=1, kind="stable")[:, : int(case["ratio"] * noise.shape[1])]
    np.put_along_axis(hidden, order, True, axis=1)
    cells = torch.from_numpy(hidden.reshape(shape[0], *grid))
    return spread_blocks(cells[:, None], case["block"]), Cells(~cells, case["block"])


def _output(task: nn.Module, image: torch.Tensor, hidden: torch.Tensor, cells: Cells) -> tuple[Any, ...]:
    """Features, densified maps, output and loss."""
    features = task.features(image, cells)
    densified = task.densified(features)
    output = task.decoder(densified, image)
    return features, densified, output, hidden_mean((output - image).square(), hidden)


def _dense(x: Any) -> torch.Tensor:
    return x if isinstance(x, torch.Tensor) else x.dense()
