"""Preprocessing of a volume on one CPU core: this project beside AMAES' own (yucca 1.1.7), from NIfTI to the stored array.

    make bench-preprocessing

Per volume: CPU time and peak memory of the whole way, the bytes stored, and the largest difference of the two images on
equal boxes, before and after storing.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import harness
from augmentation import SHARED, phantoms
from brainpretrain import config
from brainpretrain.files import write_json
from harness import ROOT, Missing, Party

HERE = Path(__file__).parent
REAL = [
    "oasis_trt20_mindboggle/OASIS-TRT-20-01/T1_brain.nii.gz",
    "ixi_2mm/IXI012-HH-1211/T1.nii.gz",
    "isles22/docker_case_A/FLAIR.nii.gz",
    "isles22/docker_case_A/DWI.nii.gz",
    "isles22/sub-strokecase0009/FLAIR.nii.gz",
    "ljubljana_ms_cross_mni/patient07/FLAIR.nii.gz",
    "msd_task04_hippocampus/imagesTr/hippocampus_003.nii.gz",
]
WHO = ("ours", "peer")
UNITS = {"seconds": ("CPU ms", 1e3, 1), "memory": ("peak MB", 1e-6, 0), "bytes": ("MB stored", 1e-6, 2)}  # factor, digits
# the peer's number over ours is at least so much, on every volume (memory) or in the mean; the difference is at most so much
GOALS = {"seconds": 4, "memory": 1, "bytes": 4, "difference": 1e-5}
NOT_MEASURED = "not measured"


def inputs(data: Path, work: Path, settings: config.Config) -> dict[str, str]:
    """Names of the volumes -> files in `work` that both parties can read: real volumes where they are, else phantoms.

    The peer refuses a volume whose axes are permuted: such a one is written anew, with its voxels in RAS.
    """
    real = {name.removesuffix(".nii.gz"): data / name for name in REAL if (data / name).exists()}
    found = real or {f"phantom/{path.name.removesuffix('.nii.gz')}": path for path in phantoms(work, settings)}
    raw = work / "raw" / "task" / "imagesTr"
    raw.mkdir(parents=True)
    files = {}
    for number, (name, path) in enumerate(found.items()):
        target = raw / f"v{number}_000.nii.gz"
        axes = np.abs(nib.orientations.io_orientation(nib.load(path).affine)[:, 0])
        if list(axes) == [0, 1, 2]:
            shutil.copy(path, target)
        else:
            nib.save(nib.as_closest_canonical(nib.load(path)), target)
        files[name] = f"v{number}"
    return files


def measure(parties: Mapping[str, Party], volume: str, work: Path, rounds: int) -> dict[str, Any]:
    """What the parties need for a volume, what they store, and how far their images are apart on our box."""
    print(volume, file=sys.stderr)
    row: dict[str, Any] = {}
    columns = {name: partial(_once, party, volume) for name, party in parties.items()}
    times = harness.interleaved(columns, rounds)
    row["seconds"] = {name: statistics.median(value for (value,) in samples) for name, samples in times.items()}
    stored = {name: party("stored", volume=volume) for name, party in parties.items()}
    row["bytes"] = {name: found["bytes"] for name, found in stored.items()}
    row["shape"] = {name: found["shape"] for name, found in stored.items()}
    box = parties["ours"]("image", volume=volume)
    if "peer" in parties:
        parties["peer"]("image", volume=volume, box=box)
        theirs = np.load(work / "peer.npy")
        row["difference"] = _difference(np.load(work / "ours.npy"), theirs)
        row["difference_stored"] = _difference(np.load(work / "stored.npy").astype(np.float32), theirs)
    return row


def _memory(parties: Mapping[str, Party], volume: str) -> dict[str, Any]:
    return {"memory": {name: party("memory", volume=volume) for name, party in parties.items()}}


def _once(party: Party, volume: str, number: int) -> list[float]:
    return [party("store", volume=volume)]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, f"equal boxes gave {ours.shape} and {theirs.shape}"
    return float(np.abs(ours - theirs).max())


def cost_table(rows: Mapping[str, dict[str, Any]], peer: str) -> str:
    """Markdown: time, memory and bytes, the geometric mean of the ratios, the rate over all volumes, and the goals."""
    header, lines = ["volume"], [[name] for name in rows]
    means, goals = ["geometric mean"], ["goal"]
    for key, (unit, factor, digits) in UNITS.items():
        header += [f"{unit}, brainpretrain", f"{unit}, {peer}", "ratio"]
        for line, row in zip(lines, rows.values(), strict=True):
            line += [NOT_MEASURED if n is None else f"{factor * n:.{digits}f}" for n in map(row[key].get, WHO)]
            line.append(_times(_ratio(row, key)))
        ratios = [_ratio(row, key) for row in rows.values()]
        means += ["", "", _times(None if None in ratios else _geometric(ratios))]
        goals += ["", "", f"at least {GOALS[key]}x"]
    rates = ["volumes per second", *(_rate(rows.values(), who) for who in WHO), *[""] * 7]
    return harness.table(header, [*lines, means, goals, rates])


def difference_table(rows: Mapping[str, dict[str, Any]], peer: str) -> str:
    """Markdown: both stored grids, and the largest difference of the images on equal boxes."""
    lines = []
    for name, row in rows.items():
        grids = ("x".join(map(str, shape)) if shape else NOT_MEASURED for shape in map(row["shape"].get, WHO))
        differences = (row.get(key) for key in ("difference", "difference_stored"))
        lines.append([name, *grids, *(NOT_MEASURED if d is None else f"{d:.1e}" for d in differences)])
    lines.append(["goal", "", "", f"at most {GOALS['difference']:.0e}", ""])
    header = ["volume", "grid, brainpretrain", f"grid, {peer}", "largest difference", "once stored (float16)"]
    return harness.table(header, lines)


def _ratio(row: Mapping[str, Any], key: str) -> float | None:
    """The peer's number over ours; None where one is missing."""
    ours, peer = row[key].get("ours"), row[key].get("peer")
    return peer / ours if ours and peer else None


def _geometric(values: Sequence[Any]) -> float:
    return math.exp(harness.mean([math.log(value) for value in values]))


def _rate(rows: Any, who: str) -> str:
    times = [row["seconds"].get(who) for row in rows]
    return f"{len(times) / sum(times):.2f}" if all(times) else NOT_MEASURED


def _times(ratio: float | None) -> str:
    return NOT_MEASURED if ratio is None else f"{ratio:.2f}x"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=HERE / ".venv/bin/python", help="interpreter that has the peer")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the real volumes; phantoms if there are none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "results/bench/preprocessing.json")
    parser.add_argument("--page", type=Path, help="page with a section 'preprocessing' to write the table to")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    # Ljubljana's volumes are resampled and a few voxels negative; the corpus rule would leave them out
    recipe = settings.preprocess["amaes"].model_dump(mode="json") | {"allow_negative": True}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes = inputs(args.data, work, settings)
        given = {"work": folder, "recipe": recipe}
        parties = {"ours": Party(HERE / "party_preprocessing.py", given, core=args.core)}
        peer = "yucca 1.1.7"
        try:
            parties["peer"] = Party(HERE / "party_yucca_preprocessing.py", given, python=args.peers, core=args.core)
            peer = parties["peer"].name
        except Missing as reason:
            print(f"no {peer}: {reason}", file=sys.stderr)
        for party in parties.values():  # what is loaded late belongs to no volume
            party("store", volume=next(reversed(volumes.values())))
        # memory first: a process keeps some of what it freed, and would be seen to need less
        memory = {name: _memory(parties, volume) for name, volume in volumes.items()}
        rows = {name: memory[name] | measure(parties, volume, work, args.rounds) for name, volume in volumes.items()}
        for party in parties.values():
            party.close()
    facts = harness.facts() | {"command": f"python bench/preprocessing.py --rounds {args.rounds}"}
    write_json(args.json, {"facts": facts, "peer": peer, "volumes": rows})
    said = f"`{facts['command']}`, {facts['machine']} (load {facts['load']}), {facts['date']}, commit {facts['commit']}."
    text = "\n\n".join((said, cost_table(rows, peer), difference_table(rows, peer)))
    print(text)
    if args.page:
        harness.write_section(args.page, "preprocessing", text)


if __name__ == "__main__":
    main()
