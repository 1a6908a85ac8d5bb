"""SwinUNETR pretraining: the contrast, the three losses, turns, what is cut out, and the network with its heads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from brainpretrain import backbones
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, distribution, exact, figures, share, summary, worst
from brainpretrain.pretext import swinunetr
from brainpretrain.seeds import generator

# rounding in float32, relative to the standard deviation of a map; instance norms of a few voxels amplify it in the decoder
NETWORK = 2e-4
DECODER = 2e-3
BATCHES = 150  # at most


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "three_losses" in content and "cutout" in content


def check(content: Mapping[str, Any], draw: int = 0) -> Iterator[Line]:
    """Lines for contrast, losses, turns, cut-outs and network."""
    for case in content["contrast"]:
        views = [torch.from_numpy(np.asarray(formulas.evaluate(text))) for text in formulas.formulas(case["views"]).values()]
        found = swinunetr.info_nce(torch.cat(views), case["temperature"]).item()
        yield figures(f"contrast of {list(views[0].shape)}", [found], [case["loss"]])
    temperatures = [case["temperature"] for case in content["contrast"]]
    yield from _losses(content["three_losses"], content["three_losses"].get("temperature", temperatures[0]))
    yield from _turns(content["rotation"], content["filling"]["image"])
    for case in content["cutout"]:
        yield from _cutout(case, " ".join(content["semantics"]), draw)
    if "ssl_head" in content:
        yield from _network(content["ssl_head"], content["filling"]["image"])


def _losses(case: Mapping[str, Any], temperature: float) -> Iterator[Line]:
    """The inputs are a text: `rotation logits seq('a', (6,4)), turns = arange(6) % 4, contrast seq('b'|'c', (3,16)), ...`."""
    text = case["inputs"]
    calls = re.findall(r"seq\(('[^']*'(?:\s*\|\s*'[^']*')*),\s*(\([\d,\s]*\)|same)\)", text)
    tensors: list[torch.Tensor] = []
    for names, written in calls:
        shape = list(tensors[-1].shape) if written == "same" else [int(n) for n in re.findall(r"\d+", written)]
        tensors += [torch.from_numpy(formulas.seq(name, shape)) for name in re.findall(r"'([^']*)'", names)]
    logits, first, second, output, target = tensors
    turns = torch.from_numpy(formulas.evaluate(re.search(r"turns = ([^,]+),", text)[1]))  # type: ignore[index]
    found = swinunetr.three_losses(logits, turns, torch.cat([first, second]), temperature, output, target)
    wanted = {"rotation": "rotation", "contrast": "contrast", "reconstruction": "reconstruction_l1"}
    yield figures("three losses", [found[name].item() for name in wanted], [case[name] for name in wanted.values()])
    yield figures("their sum", [sum(found.values()).item()], [case["total"]])  # type: ignore[union-attr]


def _shape(text: str) -> list[int]:
    """The last shape in a text such as `image formula, shape (4,1,4,6,6)`."""
    return [int(n) for n in re.findall(r"\d+", re.findall(r"\([\d,\s]+\)", text)[-1])]


def _turns(case: Mapping[str, Any], formula: str) -> Iterator[Line]:
    image = torch.from_numpy(formulas.image(formula, _shape(case["input"])))
    for label, found, expected in zip(case["labels"], swinunetr.turn(image, case["labels"]), case["turned"], strict=True):
        yield summary(f"turned by {label} quarters", found, expected)


def _cutout(case: Mapping[str, Any], text: str, draw: int) -> Iterator[Line]:
    """As many batches as the fixture has, up to `BATCHES`."""
    size, batch, runs = case["size"], case["batch"], min(BATCHES, case["runs"])
    most = float((re.search(r"reach U\(0, ([\d.]+)\)", text) or ["", "0.3"])[1])
    low, high = (float((re.search(pattern, text) or ["", default])[1]) for pattern, default in _SIDES)
    cutout = swinunetr.Cutout((0.0, most), (0.0, most), (low, high))
    noise, swapped, single = [], [], []
    for run in range(runs):
        rngs = [generator(run * batch + sample, f"parity cutout {draw}") for sample in range(batch)]
        _, drawn, copied = swinunetr.cut_out(torch.zeros(batch, 1, *size), rngs, cutout)
        noise += drawn.flatten(1).double().mean(1).tolist()
        swapped += copied.flatten(1).double().mean(1).tolist()
        single.append(_covered(generator(run, f"parity drop {draw}"), size, cutout))
    yield worst("cut-out: share of noise", distribution("", noise, case["share_noise"]))
    yield worst("cut-out: share of others", distribution("", swapped, case["share_from_other_sample"]))
    without = float((np.array(swapped) == 0).mean())
    yield share("cut-out: samples without others", without, case["share_without_swap"], case["share_noise"]["n"], len(swapped))
    yield worst("cut-out: share corrupted", distribution("", np.add(noise, swapped), case["share_corrupted"]))
    if "one_drop_only" in case:
        yield worst("cut-out: one drop alone", distribution("", single, case["one_drop_only"]))


_SIDES = ((r"side U\{int\(([\d.]+) n\)", "0.05"), (r"\.\. int\(([\d.]+) n\) - 1\}", "0.25"))


def _covered(rng: np.random.Generator, size: Sequence[int], cutout: swinunetr.Cutout) -> float:
    mask = np.zeros(tuple(size), dtype=bool)
    for box in swinunetr.boxes(rng, size, cutout.ratio, cutout.box):
        mask[box] = True
    return float(mask.mean())


def _network(case: Mapping[str, Any], formula: str) -> Iterator[Line]:
    """The Swin encoder with the heads and the decoder of the pretraining, filled by name."""
    tensors, width = case["tensors"], case["feature_size"]
    stages = sorted({name.split(".")[1] for name in tensors if name.startswith("swinViT.layers")})
    blocks = [len({name.split(".")[4] for name in tensors if name.startswith(f"swinViT.{stage}.0.blocks.")}) for stage in stages]
    tables = [tensors[f"swinViT.{stage}.0.blocks.0.attn.relative_position_bias_table"] for stage in stages]
    window = round((round(tables[0][0] ** (1 / 3)) + 1) / 2)
    options = {"feature_size": width, "depths": blocks, "num_heads": [heads for _, heads in tables], "window_size": window}
    encoder = backbones.build("swinunetr", 1, **options)
    weights = dict.fromkeys(("rotation_weight", "contrast_weight", "reconstruction_weight"), 1.0)
    task = swinunetr.build(
        encoder, 1, cutout_ratio=[0, 0.3], swap_ratio=[0, 0.3], box_fraction=[0.05, 0.25], temperature=0.5, pool="token",
        contrast_dim=tensors["contrastive_head.weight"][0], **weights,
    )  # fmt: skip
    names = {name: _reference(name) for name in task.state_dict()}
    own = {names[name]: list(tensor.shape) for name, tensor in task.state_dict().items()}
    wrong = [name for name in {*own, *tensors} if own.get(name) != tensors.get(name)]
    yield exact("network: names and shapes of tensors", wrong, [])
    task.load_state_dict(
        {
            name: formulas.filling(names[name], list(tensor.shape)) if tensor.is_floating_point() else tensor
            for name, tensor in task.state_dict().items()
        }
    )
    counts = [sum(p.numel() for p in module.parameters()) for module in (task, encoder)]
    yield exact("network: parameters", counts, [case["parameters"], case["encoder_parameters"]])
    image = torch.from_numpy(formulas.image(formula, _shape(case["input"])))
    with torch.no_grad():
        features = task.eval().encoder(image)
        rotation, contrast = task.tokens(features[-1])
        found = task.rotation(rotation), task.contrast(contrast), task.decoder(features[-1])
    for level, (feature, expected) in enumerate(zip(features, case["features"], strict=True)):
        yield summary(f"network: feature map {level}", feature, expected, NETWORK)
    yield figures("network: rotation", found[0].tolist(), case["rotation_logits"], NETWORK)
    yield summary("network: contrast", found[1], case["contrast"], NETWORK)
    yield summary("network: reconstruction", found[2], case["reconstruction"], DECODER)


def _reference(name: str) -> str:
    """The name in the authors' program of a tensor of this pretext."""
    for own, theirs in (("encoder.swin.", "swinViT."), ("rotation.", "rotation_head."), ("contrast.", "contrastive_head.")):
        if name.startswith(own):
            return theirs + name.removeprefix(own)
    return name.replace("decoder.", "conv.")
