"""VoCo: overlaps, losses of three programs, the step with a teacher, the projector, and its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from brainpretrain import backbones
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, exact, figures, share, summary
from brainpretrain.pretext import voco
from brainpretrain.seeds import generator

RESENC_L = {"widths": [32, 64, 128, 256, 320, 320], "blocks": [1, 3, 4, 6, 6, 6]}


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "labels_3d" in content or "labels_2d" in content


def check(content: Mapping[str, Any], draw: int = 0) -> Iterator[Line]:
    """Lines for overlaps, losses, teacher, projector and parameters."""
    for name, rows in content.get("labels_2d", {}).items():
        crop, grid = _grid_of(name)
        starts = [[centre - crop // 2 for centre in row["centre"]] + [0] for row in rows]
        yield from _overlaps(f"overlaps, {name}", starts, [crop] * 3, [grid, grid, 1], rows)
    for case in content.get("labels_3d", []):
        starts = [row["start"] for row in case["targets"]]
        name = f"overlaps, {case['grid']} crops of {case['crop']}"
        yield from _overlaps(name, starts, case["crop"], case["grid"], case["targets"])
    checks = {"loss": _loss, "teacher": _teacher, "head": _head, "parameters": _parameters}
    for name, run in checks.items():
        if name in content:
            yield from run(content[name])
    for name, case in content.items():
        if name.startswith("dropout1d_on_embeddings"):
            yield from _drop(name, case, " ".join(content["semantics"]), draw)


def _grid_of(name: str) -> tuple[int, int]:
    """Crop and number of crops along x and y, from a name such as `original 384 = 4 x 96`."""
    numbers = [int(n) for n in re.findall(r"(\d+) = (\d+) x (\d+)", name)[0]]
    return numbers[2], numbers[1]


def _overlaps(name: str, starts: Any, crop: list[int], grid: list[int], rows: Any) -> Iterator[Line]:
    found = voco.overlaps(np.array(starts), crop, grid)
    yield figures(name, found, [row["labels"] for row in rows], 1e-8)
    yield figures(f"{name}, sums", found.sum(1), [row["sum"] for row in rows], 1e-8)


def _tensor(text: str) -> torch.Tensor:
    """A formula; `each row divided by its sum`, or `/ row sum`, divides it."""
    divided = re.search(r"each row divided|/\s*row sum", text)
    formula = re.split(r",\s*each row|/\s*row sum", text)[0]
    values = torch.from_numpy(np.asarray(formulas.evaluate(formula), dtype=np.float32))
    return values / values.sum(-1, keepdim=True) if divided else values


def _loss(case: Mapping[str, Any]) -> Iterator[Line]:
    parts = {name: _tensor(text).requires_grad_() for name, text in formulas.formulas(case["embeddings"]).items()}
    base, target, labels = parts["base"], parts["target"], _tensor(case["labels"])
    if "labels_summary" in case:
        yield summary("loss: overlaps", labels, case["labels_summary"])
    found = voco.similarity(target, base.detach())
    if expected := case.get("nnssl"):
        predicted = torch.stack(voco.prediction(found, labels, "batch", "square")).sum()
        alike = voco.likeness(base, False, first_only=False)
        values = [predicted.item(), alike.item(), (predicted + alike).item()]
        yield figures("loss, nnssl", values, [expected[name] for name in ("prediction", "regularisation", "total")])
        gradients = torch.autograd.grad(predicted + alike, (base, target))
        wanted = [expected[f"gradient_norm_{name}"] for name in ("base", "target")]
        yield figures("gradients, nnssl", [gradient.norm().item() for gradient in gradients], wanted)
    if expected := case.get("original"):
        values = [*voco.prediction(found, labels, "image", "square"), voco.likeness(base, True, first_only=True)]
        names = ("positive", "negative", "regularisation")
        yield figures("loss, original", [value.item() for value in values], [expected[name] for name in names])
    if expected := case.get("large_scale"):
        intra = next(name for name in expected if name.startswith("intra"))
        values = [torch.stack(voco.prediction(found, labels, "image", "log")).sum(), voco.likeness(base, True, first_only=True)]
        yield figures("loss, large scale", [value.item() for value in values], [expected[intra], expected["regularisation"]])


def _teacher(case: Mapping[str, Any]) -> Iterator[Line]:
    """One linear layer for student and teacher each, filled by name; targets of all images first, then bases."""
    targets, bases, labels = (_tensor(case[name]) for name in ("targets", "bases", "labels"))
    images, per_image = labels.shape[:2]
    width = targets.shape[1]
    layers = []
    for role in ("student", "teacher"):
        names = {kind: next(n for n in case["filling_names"] if role in n and n.endswith(kind)) for kind in ("weight", "bias")}
        layer = nn.Linear(width, case["teacher_weight_after"]["shape"][0])
        layer.load_state_dict({kind: formulas.filling(name, list(getattr(layer, kind).shape)) for kind, name in names.items()})
        layers.append(layer)
    student, teacher = layers
    momentum = float((re.search(r"teacher = ([\d.]+) teacher", case["order_of_steps"]) or ["", "0.9"])[1])

    def embedded(layer: nn.Module) -> torch.Tensor:
        parts = [x.view(images, -1, width) for x in (targets, bases)]
        return layer(torch.cat(parts, dim=1))

    own = embedded(student)
    voco.update(teacher, student, momentum)
    found = voco.both_ways(own, embedded(teacher), per_image)
    values = [*voco.prediction(found, labels, "image", "square"), voco.likeness(own[:, per_image:], True, first_only=True)]
    yield summary("teacher: weight after a step", teacher.weight, case["teacher_weight_after"])
    yield summary("teacher: bias after a step", teacher.bias, case["teacher_bias_after"])
    names = ("positive", "negative", "regularisation")
    numbers = [value.item() for value in values]
    yield figures("teacher: losses", [*numbers, sum(numbers)], [case[name] for name in (*names, "total")])


def _head(case: Mapping[str, Any]) -> Iterator[Line]:
    pooled = _tensor(case["input"])
    outputs = {"nnssl_output": "instance", "original_output_batch_norm": "batch"}
    for name, norm in outputs.items():
        if name not in case:
            continue
        projector = voco.Projector(pooled.shape[1], case["hidden"], norm)
        yield exact(f"projector, {norm} norm: tensors", _wrong(projector, case["tensors"]), [])
        projector.load_state_dict({name: formulas.filling(name, shape) for name, shape in case["tensors"].items()})
        yield summary(f"projector, {norm} norm: output", projector(pooled), case[name])


def _wrong(module: nn.Module, tensors: Mapping[str, list[int]]) -> list[str]:
    """Names of tensors that only one side has, or that differ in shape."""
    own = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    return [name for name in {*own, *tensors} if own.get(name) != tensors.get(name)]


def _parameters(case: Mapping[str, Any]) -> Iterator[Line]:
    hidden, channels = case["projector_tensors"]["layer1.0.weight"]
    with torch.device("meta"):
        projector = voco.Projector(channels, hidden, "batch")
        encoder = backbones.build("resenc", 1, **RESENC_L)
    yield exact("projector: tensors", _wrong(projector, case["projector_tensors"]), [])
    counts = [sum(p.numel() for p in module.parameters()) for module in (projector, encoder)]
    wanted = {"projector": counts[0], "total_with_resenc_l_encoder": sum(counts)}
    names = [name for name in wanted if name in case]
    yield exact("parameters", [wanted[name] for name in names], [case[name] for name in names])


def _drop(name: str, case: Mapping[str, Any], text: str, draw: int) -> Iterator[Line]:
    """Whole embeddings are zero, none in part; the name has the number of rows and their length."""
    rows, width = (int(n) for n in re.findall(r"_(\d+)_rows_of_(\d+)", name)[0])
    drop = float((re.search(r"Dropout1d\(([\d.]+)\)", text) or ["", "0.2"])[1])
    zero = voco.kept(generator(draw, "parity drop"), rows, drop)[:, None].expand(rows, width) == 0
    yield share("dropped embeddings", zero.all(1).double().mean().item(), case["rows_all_zero"], rows, rows)
    yield figures("partly dropped", [(zero.any(1) & ~zero.all(1)).double().mean().item()], [case["rows_partly_zero"]], 0)
