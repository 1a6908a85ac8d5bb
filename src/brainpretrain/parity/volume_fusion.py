"""VolumeFusion: fusion of given boxes, the loss of given logits, and what the three layouts draw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, distribution, exact, figures, share, summary, worst
from brainpretrain.pretext import volume_fusion
from brainpretrain.seeds import generator

RUNS = 600


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "fusion" in content and "volume" in str(content.get("what", "")).lower()


def check(content: Mapping[str, Any], draw: int = 0) -> Iterator[Line]:
    """Lines for fusion, loss and layouts."""
    yield from _fusion(content)
    if "loss" in content:
        yield from _loss(content["loss"])
    for name, expected in content.get("statistics", {}).items():
        kind = next((kind for kind in _LAYOUTS if name.startswith(kind)), None)
        if kind is None:
            yield Line(f"layout '{name}': not known", float("nan"), 0)
        else:
            yield from _layout(name, kind, expected, content["semantics"], draw)


def _fusion(content: Mapping[str, Any]) -> Iterator[Line]:
    case, image = content["fusion"], content["filling"]["image"]
    size, classes = case["size"], len(case["voxels_per_class"])
    foreground, background = (_image(case[name], image, size) for name in ("foreground", "background"))
    order = case["boxes"].split(",")[:6]
    places = [order.index(f"{what}_{axis}") for what in ("size", "start") for axis in "xyz"]
    label = volume_fusion.painted(size, [[box[place] for place in places] for box in case["box_list"]], case["classes"])
    fused = volume_fusion.fuse(foreground[None], background[None], torch.from_numpy(label)[None], classes)[0]
    yield summary("fused volume", fused, case["fused"])
    if points := case.get("fused_at"):
        found = [fused[(0, *map(int, re.findall(r"\d+", at)))].item() for at in points]
        yield figures("fused volume at points", found, list(points.values()))
    yield exact("voxels per class", np.bincount(label.ravel(), minlength=classes), case["voxels_per_class"])
    if "label_sum_weighted" in case:
        weighted = int((label.ravel().astype(np.int64) * np.arange(label.size)).sum())
        yield exact("class times place, summed", [weighted], [case["label_sum_weighted"]])


def _image(text: str, formula: str, size: Sequence[int]) -> torch.Tensor:
    """`image formula, b=0,c=0` or `1 - (image formula with b=1,c=0)`, as (1 x y z)."""
    fixed = {name: int(value) for name, value in re.findall(r"\b([bc])\s*=\s*(\d+)", text)}
    values = torch.from_numpy(formulas.image(formula, size, **fixed))[None]
    return 1 - values if re.match(r"\s*1\s*-", text) else values


def _loss(case: Mapping[str, Any]) -> Iterator[Line]:
    logits = torch.from_numpy(np.asarray(formulas.evaluate(case["logits"]), dtype=np.float32))
    shape = {"...": (logits.shape[0], 1, *logits.shape[2:])}
    label = torch.from_numpy(np.asarray(formulas.evaluate(case["labels"], shape))).long()[:, 0]
    counts = np.bincount(label.numpy().ravel(), minlength=logits.shape[1])
    yield exact("loss: voxels per class", counts, case["voxels_per_class"])
    yield figures("loss of given logits", _parts(logits, label), [case[name] for name in ("loss", "minus_dice", "cross_entropy")])
    for name, other in case.items():
        if isinstance(other, dict) and "change" in other:
            before, after = map(int, re.findall(r"\d+", other["change"])[:2])
            changed = torch.where(label == before, after, label)
            yield figures(f"loss, {name}", _parts(logits, changed)[:2], [other["loss"], other["minus_dice"]])


def _parts(logits: torch.Tensor, label: torch.Tensor) -> list[float]:
    """Loss, minus Dice and cross-entropy as the reference counts them: its Dice is not subtracted from 1."""
    dice, entropy = (value.item() for value in volume_fusion.dice_and_entropy(logits, label))
    return [dice - 1 + entropy, dice - 1, entropy]


def _range(pattern: str, text: str, default: Sequence[float]) -> list[float]:
    """Numbers of a text; the default where the text does not say."""
    found = re.search(pattern, text)
    return [float(number) for number in found.groups()] if found else list(default)


# the options of each layout, from the words of the fixture: number of boxes and their sides
_NUMBER = {"boxes": r"number U\{(\d+)\.\.(\d+)\}", "grid": r"$never", "patchmix": r"U\{(\d+)\.\.(\d+)\} patches"}
_SIDES = {
    "boxes": r"side per axis U\{(\d+) ?\.\. ?floor\(([\d.]+) n\)\}",
    "grid": r"side per axis U\{(\d+)\.\.(\d+)\}",
    "patchmix": r"side U\{(\d+)\.\.(\d+)\|(\d+)\|(\d+)\}",
}
_DEFAULTS = {"boxes": ((10, 39), (8, 0.625)), "grid": ((1, 1), (8, 32)), "patchmix": ((4, 40), (4, 20, 40, 40))}
_LAYOUTS = {"boxes": "boxes", "grid": "grid", "patchmix": "patches"}


def _layout(name: str, kind: str, expected: Mapping[str, Any], semantics: Sequence[str], draw: int) -> Iterator[Line]:
    """Draws a layout and compares the numbers and sides of its boxes, their classes, and the voxels of each class."""
    text = next((line for line in semantics if line.lower().startswith(kind)), "")
    size, classes = expected["size"], len(expected["voxel_share_per_class"])
    number = [int(n) for n in _range(_NUMBER[kind], text, _DEFAULTS[kind][0])]
    options = classes, number, _range(_SIDES[kind], text, _DEFAULTS[kind][1])
    layout = volume_fusion.LAYOUTS[_LAYOUTS[kind]]
    labels = [layout(generator(run, f"parity {name} {draw}"), size, *options) for run in range(RUNS)]
    if "number_of_boxes" in expected:
        drawn = [volume_fusion.draw_boxes(generator(run, f"parity {name} {draw}"), size, *options) for run in range(RUNS)]
        yield from _drawn_boxes(name, drawn, classes, expected)
    per_class = np.array([np.bincount(label.ravel(), minlength=classes) / label.size for label in labels])
    for k, recorded in enumerate(expected["voxel_share_per_class"]):
        yield worst(f"{name}: share of voxels of class {k}", distribution("", per_class[:, k], recorded))
    if (wanted := expected.get("share_of_runs_with_all_five_classes")) is not None:
        yield share(f"{name}: runs with all classes", float((per_class > 0).all(1).mean()), wanted, expected["runs"], RUNS)


def _drawn_boxes(name: str, drawn: Sequence[volume_fusion.Boxes], classes: int, expected: Mapping[str, Any]) -> Iterator[Line]:
    sides = np.array([box[:3] for boxes, _ in drawn for box in boxes])
    kinds = np.concatenate([values for _, values in drawn])
    yield worst(f"{name}: number of boxes", distribution("", [len(boxes) for boxes, _ in drawn], expected["number_of_boxes"]))
    yield worst(
        f"{name}: sides",
        [line for axis, recorded in enumerate(expected["side"]) for line in distribution("xyz"[axis], sides[:, axis], recorded)],
    )
    ranges = [[sides[:, axis].min(), sides[:, axis].max()] for axis in range(3)]
    yield exact(f"{name}: range of sides", ranges, [recorded["range"] for recorded in expected["side"]])
    recorded_boxes, shares = expected["side"][0]["n"], np.bincount(kinds, minlength=classes) / len(kinds)
    wanted = expected["class_share_of_boxes"]
    yield worst(
        f"{name}: classes of boxes",
        [share(f"class {k}", float(shares[k]), wanted[k], recorded_boxes, len(kinds)) for k in range(classes)],
    )
