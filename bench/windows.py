"""A whole volume in overlapping patches on one CPU core: the cost of the window in addition to the network.

    make bench-windows

The network is the same in all parties, and is counted alone on as many patches as the window of this project has. A second,
trivial network shows the cost of the window itself. nnU-Net's and MONAI's windows are measured, too. A second table counts the
windows that cropping to the box of the brain saves.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import harness
import script
from augmentation import phantoms
from brainpretrain import config
from brainpretrain.preprocess import nifti, volumes
from harness import ROOT, Party, Peer

PEERS = {
    "nnunet": Peer("party_nnunet_windows.py", "nnU-Net 2.8.1"),
    "monai": Peer("party_monai_windows.py", "MONAI"),
}
NETWORKS = ("small U-Net", "one 1x1x1 convolution")
REAL = [
    "oasis_trt20_mindboggle/OASIS-TRT-20-01/T1_brain.nii.gz",
    "isles22/docker_case_A/FLAIR.nii.gz",
    "isles22/sub-strokecase0009/FLAIR.nii.gz",
    "ljubljana_ms_cross_mni/patient07/FLAIR.nii.gz",
]
AT_MOST = 1.1  # time over the network alone


def windows(shape: Sequence[int], patch: int, overlap: float) -> int:
    """Patches that cover a volume, the last one of an axis ending with the volume."""
    step = patch - int(patch * overlap)
    return math.prod(1 + max(0, -(-(n - patch) // step)) for n in shape)


def crops(files: Mapping[str, Path], patch: int, overlap: float, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Windows of each volume brought to 1 mm, whole and cropped to its box; the images of the latter (x y z)."""
    found = []
    for name, path in files.items():
        read = nifti.read_volume(path)
        whole = volumes.preprocess(read, None, dict(recipe) | {"crop": "none"})[0]
        image = volumes.preprocess(read, None, dict(recipe) | {"crop": "nonzero"})[0]
        counts = {"whole": windows(whole.shape, patch, overlap), "box": windows(image.shape, patch, overlap)}
        found.append({"name": name, "whole": list(whole.shape), "box": list(image.shape), "windows": counts, "image": image})
    return found


def measure(parties: Mapping[str, Party], count: int, network: str, rounds: int) -> dict[str, list[float]]:
    """Seconds per round of each window, and of the network alone."""
    columns = {key: partial(_window, party, network) for key, party in parties.items()}
    columns["alone"] = partial(_alone, parties["ours"], network, count)
    return {key: [value for (value,) in found] for key, found in harness.interleaved(columns, rounds).items()}


def _window(party: Party, network: str, number: int) -> list[float]:
    return [party("window", name=network)]


def _alone(party: Party, network: str, count: int, number: int) -> list[float]:
    return [party("alone", name=network, windows=count)]


def ratio(times: Mapping[str, Sequence[float]], key: str) -> float | None:
    """Time over the network alone."""
    return statistics.median(times[key]) / statistics.median(times["alone"]) if key in times else None


def window_table(
    times: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str], apart: Mapping[str, Sequence[float]]
) -> str:
    """Markdown: seconds, and times the network alone."""
    lines = []
    for network, found in times.items():
        alone = f"{statistics.median(found['alone']):.2f}"
        cells = []
        for key in names:
            over = ratio(found, key)
            cells.append(script.NOT_MEASURED if over is None else f"{statistics.median(found[key]):.2f} ({over:.2f}x)")
        lines.append([network, alone, *cells])
    lines.append(["goal, small U-Net", "", f"at most {AT_MOST}x", *[""] * (len(names) - 1)])
    for place, what in enumerate(("largest difference of logits", "root mean square", "voxels of another class")):
        form = ".1%" if what.startswith("voxels") else ".1e"
        lines.append(
            [what, "", "", *(script.shown(apart[key][place] if key in apart else None, form) for key in list(names)[1:])]
        )
    return harness.table(["network, CPU s", "alone", *names.values()], lines)


def differences(theirs: np.ndarray, ours: np.ndarray) -> list[float]:
    """Differences of logits (classes x y z): the largest, the root mean square, and the share of voxels of another class."""
    apart = theirs - ours
    return [float(np.abs(apart).max()), float(np.sqrt(np.mean(apart**2))), float(np.mean(theirs.argmax(0) != ours.argmax(0)))]


def crop_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: windows of a volume and of its box."""
    lines = [
        [row["name"], *("x".join(map(str, row[key])) for key in ("whole", "box")),
         *(str(row["windows"][key]) for key in ("whole", "box")), f"{row['windows']['whole'] / row['windows']['box']:.2f}x"]
        for row in found
    ]  # fmt: skip
    return harness.table(["volume at 1 mm", "whole", "box of the brain", "windows, whole", "windows, box", "fewer"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the tables."""
    parser = script.parser(__doc__, "windows", rounds=3)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--side", type=int, help="cut the volume to so many voxels along each axis")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        real = {name.removesuffix(".nii.gz"): args.data / name for name in REAL if (args.data / name).exists()}
        files = real or {f"phantom {n}": path for n, path in enumerate(phantoms(work, settings))}
        recipe = settings.preprocess["amaes"].model_dump(mode="json") | {"allow_negative": True}
        found = crops(files, args.patch, args.overlap, recipe)
        image = found[0]["image"][(slice(args.side),) * 3].astype(np.float32)
        np.save(work / "volume.npy", image)
        given = {"work": folder, "volume": str(work / "volume.npy"), "patch": args.patch, "overlap": args.overlap}
        parties, names = script.open_parties("party_windows.py", PEERS, given, args)
        count = len(parties["ours"]("starts"))
        expected = windows(image.shape, args.patch, args.overlap)
        assert count == expected, f"{count} windows were seen, {expected} counted"
        times = {network: measure(parties, count, network, args.rounds) for network in NETWORKS}
        for party in parties.values():
            party("result", name=NETWORKS[0])
        results = {key: np.load(work / f"{key}.npy") for key in parties}
        apart = {key: differences(found, results["ours"]) for key, found in results.items() if key != "ours"}
        for party in parties.values():
            party.close()
    what = f"{count} windows of {args.patch}^3 over {found[0]['name']}, {'x'.join(map(str, image.shape))}"
    facts = harness.facts() | {"command": f"python bench/windows.py --rounds {args.rounds}", "inputs": what}
    figures = [
        harness.figure("B12", f"window, {network}", name, "s", times[network].get(key, []))
        for network in NETWORKS
        for key, name in (names | {"alone": "floor"}).items()
    ]
    goals = [
        harness.goal(
            "B12",
            "window, small U-Net: time over the network alone",
            "network alone",
            ratio(times[NETWORKS[0]], "ours"),
            at_most=AT_MOST,
        )
    ]
    rows = [{key: value for key, value in row.items() if key != "image"} for row in found]
    tables = [window_table(times, names, apart), crop_table(rows)]
    script.finish(args, facts, tables, figures, goals, {"times": times, "names": names, "difference": apart, "crops": rows})


if __name__ == "__main__":
    main()
