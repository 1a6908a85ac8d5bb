"""Models Genesis: curves of intensity exactly, and what flips, shuffling and painting draw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, distribution, exact, figures, share, worst
from brainpretrain.pretext import models_genesis as genesis
from brainpretrain.seeds import generator

RUNS = 400
SHUFFLES = 25


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "bezier" in content and "volume" in content


def check(content: Mapping[str, Any], draw: int = 0) -> Iterator[Line]:
    """Lines for curves, flips, painting, curves as drawn, shuffling, and the whole corruption."""
    for number, case in enumerate(content.get("bezier", [])):
        yield from _curve(number, case)
    statistics, size = content.get("statistics", {}), content["volume"]["size"]
    volume = torch.from_numpy(formulas.image(content["volume"]["formula"], [1, *size]))
    checks = {
        "flips": _flips,
        "inpainting": _inpainting,
        "outpainting": _outpainting,
        "intensity": _intensity,
        "local_shuffle": _shuffle,
    }
    for name, expected in statistics.items():
        yield from checks[name](expected, volume, draw)
    if "whole" in content:
        yield from _whole(content, volume, draw)


def _curve(number: int, case: Mapping[str, Any]) -> Iterator[Line]:
    inner, x = np.array(case["control_points"][1:3], dtype=float), torch.tensor(case["x"], dtype=torch.float64)
    found = [genesis.curve(x, inner, increasing).tolist() for increasing in (True, False)]
    yield figures(f"curve {number}", found, [case["both_sorted"], case["only_x_sorted"]], 1e-6)
    at = next((name for name in case if name.startswith("curve_at")), "")
    if at:  # t = 0 is the point (1, 1) there
        places = [1 - float(t) for t in re.findall(r"\d*\.?\d+", at.partition("_t_")[2].replace("_", " "))]
        points = [[3 * t * (1 - t) ** 2 * a + 3 * t * t * (1 - t) * b + t**3 for t in places] for a, b in inner.T]
        table = genesis.bezier(inner)  # monotone, so the sorted table holds the points at the same places
        index = [round(t * (genesis.POINTS - 1)) for t in places]
        yield figures(f"points of curve {number}", points, [case[at]["x"], case[at]["y"]], 1e-9)
        yield figures(f"table of curve {number}", [part[index].tolist() for part in table], [case[at]["x"], case[at]["y"]], 1e-4)


def _flips(expected: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    names = {0: "none", 1: "x", 2: "y"}
    drawn = [[axis for axis in genesis.flips(generator(run, f"parity flips {draw}")) if axis] for run in range(10 * RUNS)]
    found = [" and ".join(names[axis] for axis in axes) or "none" for axes in drawn]
    for name in sorted({*found, *expected["share"]}):
        wanted = expected["share"].get(name, 0.0)
        yield share(f"flips: {name}", found.count(name) / len(found), wanted, expected["runs"], len(found))


def _points(masks: np.ndarray, expected: Mapping[str, float], runs: int) -> list[Line]:
    """Shares of runs in which a voxel is set, for the voxels of the fixture."""
    places = {name: tuple(map(int, re.findall(r"\d+", name))) for name in expected}
    return [
        share(name, float(masks[(slice(None), *place)].mean()), expected[name], runs, len(masks))
        for name, place in places.items()
    ]


def _inpainting(expected: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    size = volume.shape[1:]
    masks = np.stack([genesis.inner_boxes(generator(run, f"parity in {draw}"), size).numpy() for run in range(RUNS)])
    shares = masks.reshape(RUNS, -1).mean(1)
    yield worst("in-painting: share of noise", distribution("", shares, expected["share_of_voxels_noise"]))
    wanted = expected["share_of_runs_without_box"]
    yield share("in-painting: runs without box", float((shares == 0).mean()), wanted, expected["runs"], RUNS)
    yield worst("in-painting: noise at voxels", _points(masks, expected["share_of_runs_with_noise_at"], expected["runs"]))


def _outpainting(expected: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    size = volume.shape[1:]
    kept = np.stack([~genesis.outside_of_boxes(generator(run, f"parity out {draw}"), size).numpy() for run in range(RUNS)])
    yield worst("out-painting: share kept", distribution("", kept.reshape(RUNS, -1).mean(1), expected["share_of_voxels_kept"]))
    lines, smallest = [], []
    for axis, recorded in enumerate(expected["extent_of_kept_region"]):
        seen = kept.any(tuple(other + 1 for other in range(3) if other != axis))
        first, last = seen.argmax(1), seen.shape[1] - 1 - seen[:, ::-1].argmax(1)
        smallest.append(int(first.min()))
        lines += distribution("xyz"[axis], last - first + 1, recorded)
    yield worst("out-painting: extent of what is kept", lines)
    yield exact("out-painting: smallest index kept", [min(smallest)], [expected["smallest_index_kept"]])
    yield worst("out-painting: kept at voxels", _points(kept, expected["share_of_runs_kept_at"], expected["runs"]))


def _intensity(expected: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    x = torch.tensor([*expected["x"], -0.5, 1.5], dtype=torch.float64)
    values: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for run in range(RUNS):
        rng = generator(run, f"parity intensity {draw}")
        inner, increasing = rng.random((2, 2)), bool(rng.random() >= 0.5)
        values[increasing].append(genesis.curve(x, inner, increasing).numpy())
    yield share("curves: increasing", len(values[True]) / RUNS, expected["share_increasing"], expected["runs"], RUNS)
    for name, rising in (("increasing", True), ("decreasing", False)):
        found = np.stack(values[rising])
        for place, recorded in expected[name].items():
            column = expected["x"].index(float(place))
            yield worst(f"curves: {name} at {place}", distribution("", found[:, column], recorded))
        ends = [expected["x"].index(0.0), expected["x"].index(1.0)]
        wanted = np.broadcast_to(expected[f"f(0) and f(1) of {name}"], (len(found), 2))
        yield figures(f"curves: ends of {name}", found[:, ends], wanted, 1e-9)
        yield figures(f"curves: outside of [0, 1], {name}", found[:, -2:], found[:, ends], 1e-12)
        steps = np.diff(found[:, :-2], axis=1) * (1 if rising else -1)
        yield exact(f"curves: {name} is monotone", [bool((steps >= 0).all())], [True])


def _shuffle(expected: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    size = volume.shape[1:]
    numbers = torch.arange(volume.numel(), dtype=torch.float64).view(volume.shape)
    moved, moves, changed, shift = [], [], [], []
    for run in range(SHUFFLES):
        found = genesis.shuffled(numbers, generator(run, f"parity shuffle {draw}"), expected["windows"])[0].long()
        source = np.stack(np.unravel_index(found.numpy(), tuple(size)))
        distance = np.abs(source - np.indices(tuple(size))).reshape(3, -1)
        moved.append(float((distance.sum(0) > 0).mean()))
        moves.append(distance)
        after = volume.flatten()[found]
        changed.append(float((after - volume[0]).abs().mean()))
        shift.append(float((after - volume[0]).mean()))
    yield worst("shuffling: voxels moved", distribution("", moved, expected["share_of_voxels_moved"]))
    yield worst("shuffling: difference", distribution("", changed, expected["mean_abs_difference"]))
    yield worst("shuffling: difference of means", distribution("", shift, expected["difference_of_means"]))
    per_axis = [np.array([run[axis].mean() for run in moves]) for axis in range(3)]
    recorded = expected["mean_move_along_axis"]
    yield worst(
        "shuffling: mean move", [line for axis in range(3) for line in distribution("xyz"[axis], per_axis[axis], recorded[axis])]
    )
    longest = [int(max(run[axis].max() for run in moves)) for axis in range(3)]
    yield exact("shuffling: longest move", longest, expected["longest_move_along_axis"])
    if "longest_possible" in expected:
        yield exact("shuffling: longest possible move", [n // 10 - 1 for n in size], expected["longest_possible"])


def _whole(content: Mapping[str, Any], volume: torch.Tensor, draw: int) -> Iterator[Line]:
    expected, text = content["whole"], " ".join(content["semantics"])
    chances = {
        "shuffle": _chance(r"local shuffling \(p ([\d.]+)\)", text, 0.5),
        "intensity": _chance(r"non-linear intensity \(p ([\d.]+)\)", text, 0.9),
        "paint": _chance(r"painting \(p ([\d.]+)", text, 0.9),
        "inpaint": _chance(r"in-painting with ([\d.]+)", text, 0.2),
    }
    counted = content.get("statistics", {}).get("local_shuffle", {}).get("windows")
    windows = counted or int(_chance(r"local shuffling: ([\d,]+) windows", text, 10_000))
    task = genesis.ModelsGenesis(torch.nn.Identity(), torch.nn.Identity(), chances, windows, True, False)  # type: ignore[arg-type]
    differences, changed, means = [], [], []
    for run in range(min(RUNS, expected["runs"])):
        clean, _, corrupted, _ = task.corrupted(volume[None], volume[None], [run + 10**6 * draw])
        differences.append(float((corrupted - clean).square().mean()))
        changed.append(float((corrupted != clean).double().mean()))
        means.append(float(corrupted.mean()))
    yield worst("whole: difference", distribution("", differences, expected["mse_between_input_and_target"]))
    yield worst("whole: voxels changed", distribution("", changed, expected["share_of_voxels_changed"]))
    yield worst("whole: mean of the input", distribution("", means, expected["mean_of_input"]))


def _chance(pattern: str, text: str, default: float) -> float:
    found = re.search(pattern, text)
    return float(found[1].replace(",", "")) if found else default
