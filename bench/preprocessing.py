"""Preprocessing and reading a volume on one CPU core: this project, AMAES' preprocessing (yucca 1.1.7), nnU-Net and nnssl.

    make bench-preprocessing

Per volume: CPU time and peak memory from NIfTI to the stored array, the bytes stored, CPU time of reading a random
patch, and the largest difference of our image and yucca's on equal boxes, before and after storing.
"""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

import harness
import script
from augmentation import phantoms
from brainpretrain import config
from harness import NOT_MEASURED, ROOT, Party, Peer
from script import OURS

REAL = [
    "oasis_trt20_mindboggle/OASIS-TRT-20-01/T1_brain.nii.gz",
    "ixi_2mm/IXI012-HH-1211/T1.nii.gz",
    "isles22/docker_case_A/FLAIR.nii.gz",
    "isles22/docker_case_A/DWI.nii.gz",
    "isles22/sub-strokecase0009/FLAIR.nii.gz",
    "ljubljana_ms_cross_mni/patient07/FLAIR.nii.gz",
    "msd_task04_hippocampus/imagesTr/hippocampus_003.nii.gz",
]
MANY = "msd_task04_hippocampus/imagesTr"  # tiny volumes: also this many of them in one shard, as in use
N_MANY = 16
PATCH = 128  # voxels per axis of a patch that is read
PEERS = {
    "yucca": Peer("party_yucca_preprocessing.py", "yucca 1.1.7", given={"stored_as": "yucca"}),
    "nnunet": Peer("party_nnunet_preprocessing.py", "nnU-Net 2.8.1", given={"stored_as": "nnunet"}),
    "nnssl": Peer("party_nnunet_preprocessing.py", "nnssl", given={"stored_as": "nnssl"}),
    "yucca_newest": Peer("party_yucca_preprocessing.py", "yucca 2.3.7", newest=True, given={"stored_as": "yucca_newest"}),
}


class Quantity(NamedTuple):
    """A measured quantity: the id of its figure, its unit in tables with factor and digits, and the least ratio per peer."""

    id: str
    title: str
    unit: str
    factor: float
    digits: int
    goals: dict[str, float]
    peers: tuple[str, ...] = tuple(PEERS)
    every: bool = False  # the goal holds for every volume, not for the mean


QUANTITIES = {
    "seconds": Quantity("B4", "from file to stored array", "CPU ms", 1e3, 1, {"yucca": 5, "nnunet": 6, "nnssl": 12}),
    "bytes": Quantity("B5", "stored", "MB", 1e-6, 2, {"yucca": 4.5}),
    "same": Quantity("B5", "stored, of the same image", "MB", 1e-6, 2, {"nnssl": 1.8}, ("nnssl",)),
    "read": Quantity("B6", "random patch of 128 voxels of the same image, read", "CPU ms", 1e3, 2, {"nnssl": 1.8}, ("nnssl",)),
    "memory": Quantity("B9", "peak memory beyond the start", "MB", 1e-6, 0, {"yucca": 1}, every=True),
}
ALONE = ("same", "read")  # of single volumes only
LARGEST_DIFFERENCE = 1e-5


def inputs(data: Path, work: Path, settings: config.Config) -> dict[str, list[str]]:
    """Names of the rows -> files in `work` that all parties can read: real volumes if they are available, else phantoms.

    yucca refuses a volume whose axes are permuted: a copy with its voxels in RAS replaces it.
    """
    real = {name.removesuffix(".nii.gz"): [data / name] for name in REAL if (data / name).exists()}
    if many := sorted((data / MANY).glob("*.nii.gz"))[:N_MANY]:
        real[f"{MANY}, one of {len(many)}"] = many
    found = real or {f"phantom/{path.name.removesuffix('.nii.gz')}": [path] for path in phantoms(work, settings)}
    raw = work / "raw" / "task" / "imagesTr"
    raw.mkdir(parents=True)
    files: dict[str, list[str]] = {}
    for row, (name, paths) in enumerate(found.items()):
        files[name] = [f"v{row}x{number}" for number in range(len(paths))]
        for short, path in zip(files[name], paths, strict=True):
            _copy(path, raw / f"{short}_000.nii.gz")
    return files


def _copy(path: Path, target: Path) -> None:
    axes = np.abs(nib.orientations.io_orientation(nib.load(path).affine)[:, 0])
    if list(axes) == [0, 1, 2]:
        shutil.copy(path, target)
    else:
        nib.save(nib.as_closest_canonical(nib.load(path)), target)


def measure(parties: Mapping[str, Party], volumes: list[str], work: Path, rounds: int, reads: int) -> dict[str, Any]:
    """The results of each round by quantity and party, and the difference of our image and yucca's on our box."""
    row: dict[str, Any] = {}
    columns = {name: partial(_once, party, volumes) for name, party in parties.items()}
    row["seconds"] = {name: [value for (value,) in found] for name, found in harness.interleaved(columns, rounds).items()}
    stored = {name: party("stored", names=volumes) for name, party in parties.items()}
    row["bytes"] = {name: [found["bytes"]] for name, found in stored.items()}
    row["shape"] = {name: found["shape"] for name, found in stored.items()}
    row["least"] = parties[OURS]("least", names=volumes)
    row["same"], row["read"] = {}, {}
    if len(volumes) > 1:
        return row
    box = parties[OURS]("image", volume=volumes[0])
    row["same"] = {OURS: row["bytes"][OURS]}
    if "nnssl" in parties:
        row["same"]["nnssl"] = [parties["nnssl"]("keep", volume=volumes[0], source=str(work / "ours.npy"))]
    columns = {name: partial(_patches, party, volumes[0], reads) for name, party in parties.items() if name in (OURS, "nnssl")}
    row["read"] = {name: [*map(harness.mean, found)] for name, found in harness.interleaved(columns, rounds).items()}
    if "yucca" in parties:
        parties["yucca"]("image", volume=volumes[0], box=box)
        theirs = np.load(work / "peer.npy")
        row["difference"] = _difference(np.load(work / "ours.npy"), theirs)
        row["difference_stored"] = _difference(np.load(work / "stored.npy").astype(np.float32), theirs)
    return row


def _once(party: Party, volumes: list[str], number: int) -> list[float]:
    return [party("store", names=volumes)]


def _patches(party: Party, volume: str, count: int, number: int) -> list[float]:
    return party("read", volume=volume, first=number * count, count=count)


def _memory(parties: Mapping[str, Party], volumes: list[str]) -> dict[str, list[float]]:
    found = {name: party("memory", names=volumes) for name, party in parties.items()}
    return {name: [value] for name, value in found.items() if value is not None}


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, f"equal boxes gave {ours.shape} and {theirs.shape}"
    return float(np.abs(ours - theirs).max())


def counted(rows: Mapping[str, Any]) -> list[str]:
    """The rows that enter means: single volumes."""
    return [name for name in rows if "one of" not in name]


def ratios(rows: Mapping[str, dict[str, Any]], key: str, peer: str) -> list[float | None]:
    """The peer's median over ours, per row that enters means; None where one is missing."""
    return [_ratio(rows[name], key, peer) for name in counted(rows)]


def _ratio(row: Mapping[str, Any], key: str, peer: str) -> float | None:
    ours, theirs = (row[key].get(who) for who in (OURS, peer))
    return statistics.median(theirs) / statistics.median(ours) if ours and theirs else None


def over_all(key: str, values: Sequence[float | None]) -> float | None:
    """The ratio that the goal is about: the least, or the geometric mean."""
    if None in values or not values:
        return None
    every: list[Any] = list(values)
    return min(every) if QUANTITIES[key].every else math.exp(harness.mean([math.log(value) for value in every]))


def goals(rows: Mapping[str, dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Goals and results, for the JSON and the page."""
    found = []
    for key, quantity in QUANTITIES.items():
        for peer, least in quantity.goals.items():
            value = over_all(key, ratios(rows, key, peer))
            kind = "least ratio" if quantity.every else "geometric mean of ratios"
            found.append(harness.goal(quantity.id, f"{quantity.title}, {kind}", names[peer], value, at_least=least))
    differences = [row["difference"] for row in rows.values() if "difference" in row]
    worst = max(differences, default=None)
    return [*found, harness.goal("B4", "largest difference", names["yucca"], worst, at_most=LARGEST_DIFFERENCE)]


def figures(rows: Mapping[str, dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every measured quantity, in SI units."""
    units = {"CPU ms": "s", "MB": "bytes"}
    return [
        harness.figure(quantity.id, f"{key} {name}", names[who], units[quantity.unit], row[key].get(who, []))
        for key, quantity in QUANTITIES.items()
        for name, row in rows.items()
        for who in (OURS, *quantity.peers)
    ]


def floors(rows: Mapping[str, dict[str, Any]], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """The least time of each volume, and of a patch: its share of the stored bytes, and its voxels, at the rate of reading."""
    found = []
    for name, row in rows.items():
        found.append(harness.figure("B4", f"seconds {name}", "floor", "s", [floor(row, rates)]))
        if row["read"]:
            stored, shape = row["bytes"][OURS][0], row["shape"][OURS]
            share = math.prod(min(n, PATCH) / n for n in shape)
            least = share * (stored + 2 * math.prod(shape)) / rates["read"]
            found.append(harness.figure("B6", f"read {name}", "floor", "s", [least]))
    return found


def quantity_table(rows: Mapping[str, dict[str, Any]], key: str, names: Mapping[str, str], rates: Mapping[str, float]) -> str:
    """Markdown: a quantity of all volumes and parties, ratios to ours, their mean, the goals; the floor of times."""
    quantity = QUANTITIES[key]
    peers = quantity.peers
    header = [f"{quantity.title}, {quantity.unit}", names[OURS]]
    for peer in peers:
        header += [names[peer], "ratio"]
    lines = []
    for name, row in rows.items() if key not in ALONE else [(name, rows[name]) for name in counted(rows)]:
        line = [name, _shown(row[key].get(OURS), quantity)]
        for peer in peers:
            line += [_shown(row[key].get(peer), quantity), _times(_ratio(row, key, peer))]
        lines.append(line)
    means, wanted = [["least ratio" if quantity.every else "geometric mean", ""], ["goal", ""]]
    for peer in peers:
        means += ["", _times(over_all(key, ratios(rows, key, peer)))]
        wanted += ["", f"at least {quantity.goals[peer]}x" if peer in quantity.goals else ""]
    table = [*lines, means, wanted]
    if key == "seconds":
        header.append("floor")
        for line, row in zip(table, rows.values(), strict=False):
            line.append(f"{1e3 * floor(row, rates):.1f}")
        rate = [_rate(rows, who) for who in (OURS, *peers)]
        table.append(["volumes per second", rate[0], *(cell for value in rate[1:] for cell in (value, ""))])
        table = [line + [""] * (len(header) - len(line)) for line in table]
    return harness.table(header, table)


def floor(row: Mapping[str, Any], rates: Mapping[str, float]) -> float:
    """Seconds that the bytes of a volume need at the rate of a copy, and the operations at the rate of a matrix product."""
    return row["least"]["bytes"] / rates["read"] + row["least"]["operations"] / rates["multiply"]


def difference_table(rows: Mapping[str, dict[str, Any]], names: Mapping[str, str]) -> str:
    """Markdown: the stored grids, and the largest difference of our image and yucca's on equal boxes."""
    lines = []
    for name in counted(rows):
        grids = ("x".join(map(str, shape)) if shape else NOT_MEASURED for shape in map(rows[name]["shape"].get, names))
        differences = (rows[name].get(key) for key in ("difference", "difference_stored"))
        lines.append([name, *grids, *(NOT_MEASURED if d is None else f"{d:.1e}" for d in differences)])
    lines.append(["goal", *[""] * len(names), f"at most {LARGEST_DIFFERENCE:.0e}", ""])
    grids = (f"grid, {name}" for name in names.values())
    return harness.table(["volume", *grids, f"largest difference to {names['yucca']}", "once stored (float16)"], lines)


def _shown(values: Sequence[float] | None, quantity: Quantity) -> str:
    return f"{quantity.factor * statistics.median(values):.{quantity.digits}f}" if values else NOT_MEASURED


def _rate(rows: Mapping[str, dict[str, Any]], who: str) -> str:
    times = [rows[name]["seconds"].get(who) for name in counted(rows)]
    return f"{len(times) / sum(map(statistics.median, times)):.2f}" if all(times) else NOT_MEASURED


def _times(ratio: float | None) -> str:
    return NOT_MEASURED if ratio is None else f"{ratio:.2f}x"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the tables."""
    parser = script.parser(__doc__, "preprocessing", rounds=5)
    parser.add_argument("--reads", type=int, default=8, help="patches per round")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    # Ljubljana's volumes are resampled and a few voxels negative; the corpus rule would reject them
    recipe = settings.preprocess["amaes"].model_dump(mode="json") | {"allow_negative": True}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes = inputs(args.data, work, settings)
        given = {"work": folder, "recipe": recipe, "patch": PATCH}
        parties, names = script.open_parties("party_preprocessing.py", PEERS, given, args)
        for party in parties.values():  # libraries that are loaded late belong to no volume
            party("store", names=next(reversed(volumes.values()))[:1])
        # memory first: a process keeps some freed memory, and would seem to need less
        memory = {name: _memory(parties, files) for name, files in volumes.items()}
        rows = {}
        for name, files in volumes.items():
            print(name, file=sys.stderr)
            rows[name] = measure(parties, files, work, args.rounds, args.reads) | {"memory": memory[name]}
        for party in parties.values():
            party.close()
    rates = harness.rates(args.core)
    facts = harness.facts() | {"command": f"python bench/preprocessing.py --rounds {args.rounds} --reads {args.reads}"}
    details = {"volumes": rows, "names": names, "rates": rates}
    found = figures(rows, names) + floors(rows, rates)
    script.finish(args, facts, page(rows, names, rates), found, goals(rows, names), details)


def page(rows: Mapping[str, dict[str, Any]], names: Mapping[str, str], rates: Mapping[str, float]) -> list[str]:
    """The tables of docs/benchmarks.md."""
    return [*(quantity_table(rows, key, names, rates) for key in QUANTITIES), difference_table(rows, names)]


if __name__ == "__main__":
    main()
