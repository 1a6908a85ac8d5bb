"""Dice, HD95 and NSD of three classes on one CPU core: this project, yucca and MONAI.

    make bench-evaluation

The same two label arrays are in the memory of every party. The time is that from these arrays to the nine numbers, which are
compared.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

import harness
import script
from brainpretrain import config
from harness import ROOT, Party, Peer

LABELS = {"grey matter": [1], "white matter": [2], "third": [3]}
PEERS = {
    "yucca": Peer("party_yucca_evaluation.py", "yucca 1.1.7"),
    "monai": Peer("party_monai_evaluation.py", "MONAI"),
}
METRICS = ("dice", "hd95_mm", "nsd")
TOLERANCE_MM = 1.0
# keys of the labels of OASIS-TRT-20 (FreeSurfer's numbers); all others are grey matter
WHITE = [2, 7, 16, 41, 46, 85, 251, 252, 253, 254, 255, 630, 631, 632]
FLUID = [4, 5, 14, 15, 24, 43, 44, 72, 91, 92]
REAL = [f"oasis_trt20_mindboggle/OASIS-TRT-20-{n:02d}/labels_DKT31_aseg.nii.gz" for n in (1, 2, 3)]
# least ratio of the peer's time to ours; largest difference of values
FASTER = {"yucca": 5, "monai": 3.5}
EQUAL = {"dice": 1e-6, "hd95_mm": 1e-4, "nsd": 1e-5}
# metrics that a column computes by another definition, so that its value is shown and not judged
OTHER_DEFINITION = {("yucca", "hd95_mm"), ("monai_edges", "nsd")}


def tissues(labels: np.ndarray) -> np.ndarray:
    """Classes 1 grey matter, 2 white matter, 3 fluid of a label volume of OASIS-TRT-20."""
    return np.select([labels == 0, np.isin(labels, WHITE), np.isin(labels, FLUID)], [0, 2, 3], 1).astype(np.uint8)


def perturbed(labels: np.ndarray, seed: int, shift: float = 1.2, smoothness: float = 6) -> np.ndarray:
    """A prediction with typical errors: borders moved smoothly, by `shift` voxels (standard deviation)."""
    rng = np.random.default_rng(seed)
    field = [ndimage.gaussian_filter(rng.standard_normal(labels.shape, np.float32), smoothness) for _ in range(3)]
    places = [axis + shift * f / f.std() for axis, f in zip(np.indices(labels.shape, np.float32), field, strict=True)]
    return ndimage.map_coordinates(labels, places, order=0, mode="nearest")


def cases(data: Path, work: Path, settings: config.Config) -> list[dict[str, Any]]:
    """Label volumes as .npy in `work`, with predictions: real ones if they are available, else phantoms."""
    found = []
    real = [data / name for name in REAL if (data / name).exists()]
    for number, path in enumerate(real or phantom_labels(work, settings)):
        image = nib.load(path)
        labels = np.asarray(image.dataobj)
        reference = tissues(labels) if real else labels.astype(np.uint8)
        case = {
            "name": path.parent.name if real else f"phantom {number}",
            "spacing_mm": [float(n) for n in image.header.get_zooms()],
        }
        for kind, array in (("reference", reference), ("prediction", perturbed(reference, number))):
            case[kind] = str(work / f"{number}_{kind}.npy")
            np.save(case[kind], array)
        found.append(case | {"shape": list(reference.shape)})
    return found


def phantom_labels(work: Path, settings: config.Config) -> list[Path]:
    """Synthetic label volumes in place of real ones."""
    from brainpretrain.datasets import phantom

    phantom.generate(work / "phantom", **settings.datasets["phantom"].options | {"subjects": 2, "unlabelled_subjects": 0})
    return sorted(path for path in (work / "phantom").rglob("*.nii.gz") if "dseg" in path.name or "label" in path.name)


def measure(parties: Mapping[str, Party], number: int, rounds: int) -> dict[str, Any]:
    """Seconds per round and the values of every column for a case."""
    columns = {key: partial(_once, party, number, task) for key, (party, task) in _columns(parties).items()}
    for column in columns.values():
        column(0)  # tables and caches that are made once
    times = {key: [value for (value,) in found] for key, found in harness.interleaved(columns, rounds).items()}
    values = {key: party("values", case=number, way=task) for key, (party, task) in _columns(parties).items()}
    return {"seconds": times, "values": values}


def _columns(parties: Mapping[str, Party]) -> dict[str, tuple[Party, str]]:
    """Column -> party and request; MONAI has two definitions of the NSD."""
    columns = {key: (party, "default") for key, party in parties.items()}
    if "monai" in parties:
        columns["monai"] = parties["monai"], "subvoxels"
        columns["monai_edges"] = parties["monai"], "default"
    return columns


def _once(party: Party, case: int, way: str, number: int) -> list[float]:
    return [party("score", case=case, way=way)]


def difference(row: Mapping[str, Any], key: str, metric: str) -> float | None:
    """The largest difference of a metric between a column and ours, over the classes; None if it was not measured."""
    if key not in row["values"]:
        return None
    place = METRICS.index(metric)
    return max(abs(ours[place] - theirs[place]) for ours, theirs in zip(row["values"]["ours"], row["values"][key], strict=True))


def ratios(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Geometric mean over the cases of the ratio of medians, theirs over ours; None if it was not measured."""
    if any(key not in row["seconds"] for row in rows):
        return None
    return script.geometric([statistics.median(row["seconds"][key]) / statistics.median(row["seconds"]["ours"]) for row in rows])


def time_table(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Markdown: CPU ms per case and column, the ratios, and the goals."""
    lines = []
    for row in rows:
        medians = {key: 1e3 * statistics.median(values) for key, values in row["seconds"].items()}
        cells = [script.shown(medians.get(key), ".0f") for key in names]
        lines.append([row["name"], "x".join(map(str, row["shape"])), script.shown(row.get("floor_ms"), ".1f"), *cells])
    means = [script.shown(ratios(rows, key), ".2f") + ("x" if ratios(rows, key) else "") for key in names if key != "ours"]
    wanted = [f"at least {FASTER[key.removesuffix('_edges')]}x" for key in names if key != "ours"]
    lines += [["their time over ours", "", "", "", *means], ["goal", "", "", "", *wanted]]
    return harness.table(["case, CPU ms", "voxels", "floor", *names.values()], lines)


def value_table(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Markdown: the largest difference to our values."""
    lines = []
    for key, name in names.items():
        if key == "ours":
            continue
        cells = []
        for metric in METRICS:
            found = [difference(row, key, metric) for row in rows]
            text = script.NOT_MEASURED if None in found else f"{max(f for f in found if f is not None):.1e}"
            cells.append(text + (", another definition" if (key, metric) in OTHER_DEFINITION and None not in found else ""))
        lines.append([name, *cells])
    lines.append(["goal", *(f"at most {EQUAL[metric]:.0e}" for metric in METRICS)])
    return harness.table(["largest difference to brainpretrain", "Dice", "HD95, mm", "NSD"], lines)


def goals(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ratios and differences, and their goals."""
    found = []
    for key, name in names.items():
        if key == "ours":
            continue
        found.append(
            harness.goal("B7", "Dice, HD95 and NSD, three classes", name, ratios(rows, key), FASTER[key.removesuffix("_edges")])
        )
        for metric in METRICS:
            if (key, metric) not in OTHER_DEFINITION:
                apart = [difference(row, key, metric) for row in rows]
                value = None if None in apart else max(a for a in apart if a is not None)
                found.append(harness.goal("B7", f"largest difference of {metric}", name, value, at_most=EQUAL[metric]))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the tables."""
    parser = script.parser(__doc__, "evaluation", rounds=5)
    parser.add_argument("--cases", type=int, default=len(REAL), help="so many of them")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = cases(args.data, Path(folder), config.load(ROOT / "config"))[: args.cases]
        given = {"work": folder, "cases": found, "labels": LABELS, "tolerance_mm": TOLERANCE_MM}
        parties, names = script.open_parties("party_evaluation.py", PEERS, given, args)
        names |= {"monai": f"{names['monai']}, sub-voxel NSD", "monai_edges": f"{names['monai']}, its default NSD"}
        rate = harness.rates(args.core)["read"]
        rows = []
        for number, case in enumerate(found):
            floor = 2e3 * np.prod(case["shape"]) / rate
            rows.append(
                {"name": case["name"], "shape": case["shape"], "floor_ms": floor, **measure(parties, number, args.rounds)}
            )
        for party in parties.values():
            party.close()
    facts = harness.facts() | {"command": f"python bench/evaluation.py --rounds {args.rounds} --cases {args.cases}"}
    figures = [
        harness.figure("B7", f"Dice, HD95 and NSD of {row['name']}", name, "s", row["seconds"].get(key, []))
        for row in rows
        for key, name in names.items()
    ]
    figures += [
        harness.figure("B7", f"Dice, HD95 and NSD of {row['name']}", "floor", "s", [row["floor_ms"] / 1e3]) for row in rows
    ]
    tables = [time_table(rows, names), value_table(rows, names)]
    script.finish(args, facts, tables, figures, goals(rows, names), {"cases": rows, "names": names})


if __name__ == "__main__":
    main()
