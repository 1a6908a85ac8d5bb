"""Augmentation of a patch on one CPU core: this project, the pipeline of AMAES (yucca 1.1.7), and other libraries.

    make bench-augmentation

Three tables: the expected cost of a sample, drawn with the probabilities of the paper; each transform alone, with the same
parameters on both sides and the largest difference of the results, which shows that both compute the same; and each transform
with its counterparts in other libraries.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import harness
import script
from brainpretrain import config
from brainpretrain.augment import intensity, spatial
from brainpretrain.augment.policy import Policy
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.preprocess import frames, rejections, shards
from harness import NOT_MEASURED, ROOT, Party, Peer

REAL = [
    *(f"oasis_trt20_mindboggle/OASIS-TRT-20-{n:02d}/T1_brain.nii.gz" for n in (1, 2)),
    *(f"isles22/{case}/FLAIR.nii.gz" for case in ("docker_case_A", "sub-strokecase0009")),
]
PEERS = {
    "yucca": Peer("party_yucca.py", "yucca 1.1.7"),
    "nnunet": Peer("party_nnunet.py", "nnU-Net 2.8"),
    "yucca_newest": Peer("party_yucca.py", "yucca 2.3.7", newest=True),
    "gardening_tools": Peer("party_gardening_tools.py", "gardening_tools 0.3.5", newest=True),
    "torchio": Peer("party_torchio.py", "torchio 1.2.1", newest=True),
    "batchgenerators": Peer("party_batchgenerators.py", "batchgeneratorsv2"),
    "monai": Peer("party_monai.py", "MONAI"),
}
SOURCES = {
    "disk": ("augmented", ("yucca", "nnunet", "yucca_newest")),
    "memory": ("augmented_from_memory", ("yucca", "yucca_newest", "gardening_tools", "torchio")),
}  # task, peers that have it
OTHERS = ("yucca_newest", "gardening_tools", "torchio", "batchgenerators", "monai")  # of the table of transforms
EQUAL = ("yucca", "yucca_newest")  # the same functions with the same parameters, so results must be the same
GOALS_AGAINST = ("yucca", "nnunet")
POLICIES = ("amaes", "amaes_linear", "amaes_reference")
# at least so many times faster than yucca and nnU-Net
TARGETS = {"amaes": (14, 1.2), "amaes_linear": (25, 2)}
OURS = "brainpretrain"
IDS = {"amaes": ("B1", "B3"), "amaes_linear": ("B2", "B3")}  # of these goals


def store(work: Path, volumes: list[Path], recipe: dict[str, Any]) -> list[str]:
    """Preprocesses volumes into a shard, for this project, and into float32 .npy, for the peer; returns the latter."""
    rows = [
        {column: "" for column in shards.INDEX_COLUMNS} | {"volume": f"v{n}", "subject": f"s{n}", "path": str(path)}
        for n, path in enumerate(volumes)
    ]
    table = shards.build(rows, "/", work, recipe, 0, 1)
    rejections.check_rejected(table, 0)
    write_tsv(work / "table.tsv", table)
    paths = []
    for row in read_tsv(work / "table.tsv").to_dict("records"):
        paths.append(str(work / f"{row['volume']}.npy"))
        np.save(paths[-1], frames.load(work, row).astype(np.float32))
    return paths


def inputs(data: Path, work: Path, settings: config.Config) -> tuple[list[Path], str]:
    """Real volumes if they are available, else the phantom, and a line that says which."""
    real = [data / name for name in REAL if (data / name).exists()]
    if real:
        return real, f"{len(real)} real volumes at 1 mm: " + ", ".join(path.parent.name for path in real)
    made = phantoms(work, settings)
    return made, f"{len(made)} synthetic volumes (no real ones in {data.name})"


def phantoms(work: Path, settings: config.Config) -> list[Path]:
    """Synthetic volumes in place of real ones."""
    from brainpretrain.datasets import phantom

    options = settings.datasets["phantom"].options | {"subjects": 0, "unlabelled_subjects": 1}
    phantom.generate(work / "phantom", **options)
    return sorted((work / "phantom").rglob("*.nii.gz"))


def turn(degrees: float, factor: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same rotation about each axis and scale, as this project and as the peer takes it."""
    angles = [float(np.radians(degrees)) * sign for sign in (1, -1, 0.5)]
    matrix = spatial.rotation_matrix(angles) * factor
    ours = {"matrix": matrix.tolist(), "cubic": True}
    return ours, {"p_rot": 1, "p_scale": 1, "p_deform": 0, "angles": angles, "factor": factor, "alpha": 0, "sigma": 1}


def bend() -> tuple[dict[str, Any], dict[str, Any]]:
    """Elastic deformation alone; each program draws its own field."""
    peer = {"p_rot": 0, "p_scale": 0, "p_deform": 1, "angles": [0, 0, 0], "factor": 1, "alpha": 400, "sigma": 25}
    return {"alpha": 400, "sigma": 25}, peer


class Pair(NamedTuple):
    """A transform with the same parameters for this project and for the peers."""

    transform: str
    ours: dict[str, Any]
    peer: dict[str, Any]  # as yucca's function takes them
    equal: bool = True  # the results must be; else each draws its own noise

    @property
    def kind(self) -> str:
        """The peers' name of it: with them elastic deformation is an option of one spatial transform."""
        return "spatial" if self.transform == "elastic" else self.transform


def pairs(patch: int) -> dict[str, Pair]:
    """Rows of the table. The peer's own draws depend on numpy's seed 0, and are drawn here in the same way."""
    half, kept = patch // 2 + 13, 3 * patch // 4
    draws = np.random.RandomState(0)
    voxel = [int(draws.randint(0, patch)) for _ in range(3)]
    draws = np.random.RandomState(0)
    gamma = draws.uniform(1, 2) if draws.random_sample() >= 0.5 else draws.uniform(0.5, 1)
    ghosts, ringing = intensity.ghosting_gains(patch, 0.9, 5).tolist(), intensity.gibbs_gains(patch, kept).tolist()
    noise = {"sigma": 1e-3, "seed": 1}, {"mean": 0.0, "sigma": 1e-3}, False
    one, three = [half, patch, patch], [half] * 3
    return {
        "spatial, nothing drawn": Pair("spatial", *turn(0, 1)),
        "rotation and scale, cubic": Pair("spatial", *turn(15, 1.05)),
        "elastic, cubic": Pair("elastic", *bend(), False),
        "additive noise": Pair("noise", *noise),
        "blur, sigma 0.7": Pair("blur", {"sigma": [0.7]}, {"sigma": 0.7}),
        "multiplicative noise": Pair("multiplicative_noise", *noise),
        "motion ghosting": Pair("ghosting", {"lines": [(0, ghosts)]}, {"alpha": 0.9, "num_reps": 5, "axis": 0}),
        "Gibbs ringing": Pair("gibbs", {"lines": [(2, ringing)]}, {"num_sample": kept, "axis": 2}),
        "low resolution, 1 axis": Pair("low_resolution", {"voxels": [one]}, {"target_shape": one}),
        "low resolution, 3 axes": Pair("low_resolution", {"voxels": [three]}, {"target_shape": three}),
        "bias field": Pair("bias_field", {"centre": [v / patch for v in voxel]}, {}),
        "gamma (their epsilon)": Pair(
            "gamma", {"gamma": gamma, "invert": False, "epsilon": 1.0}, {"gamma_range": [0.5, 2.0], "epsilon": 1.0}
        ),
    }


def by_transform(
    ours: Party, peers: Mapping[str, Party], work: Path, patch: int, crop: int, repeats: int
) -> list[dict[str, Any]]:
    """Seconds of each transform by party, for parties that have it; and the largest difference of results to ours."""
    sources = {}
    volume = np.load(work / "v0.npy")
    for name, side in (("patch", patch), ("crop", crop)):
        missing = [(max(0, side - n) // 2, -(-max(0, side - n) // 2)) for n in volume.shape]
        whole = np.pad(volume, missing)
        start = [(n - side) // 2 for n in whole.shape]
        sources[name] = str(work / f"{name}.npy")
        np.save(sources[name], whole[tuple(slice(s, s + side) for s in start)])
    rows = []
    for label, pair in pairs(patch).items():
        source = sources["crop" if pair.kind == "spatial" else "patch"]
        having = {key: peer for key, peer in peers.items() if peer("has", transform=pair.kind, numbers=pair.peer)}
        columns = {OURS: partial(_ours_alone, ours, pair, source)}
        columns |= {key: partial(_peer_alone, peer, pair, source) for key, peer in having.items()}
        print(label, file=sys.stderr)
        found = harness.interleaved(columns, repeats)
        times = {name: statistics.median(map(harness.mean, rounds[1:] or rounds)) for name, rounds in found.items()}
        result = np.load(work / "ours.npy")
        differences = {
            key: float(np.abs(result - np.load(work / f"{key}.npy")).max()) for key in EQUAL if pair.equal and key in having
        }
        rows.append({"transform": label, "seconds": times, "differences": differences})
    return rows


def _ours_alone(ours: Party, pair: Pair, source: str, number: int) -> list[float]:
    return [ours("one", transform=pair.transform, source=source, numbers=pair.ours)]


def _peer_alone(peer: Party, pair: Pair, source: str, number: int) -> list[float]:
    return [peer("one", transform=pair.kind, source=source, numbers=pair.peer, seed=0)]


def by_sample(ours: Party, peers: dict[str, Party], rounds: int, draws: int) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of drawn samples, from disk and from memory, by policy and by peer."""
    found = {}
    for source, (task, having) in SOURCES.items():
        columns = {policy: partial(_samples, ours, task, draws, policy=policy) for policy in POLICIES}
        columns |= {name: partial(_samples, peers[name], task, draws) for name in having if name in peers}
        for column in columns.values():
            column(0)  # compiles, and reads files into memory
        found[source] = {name: harness.summary(times) for name, times in harness.interleaved(columns, rounds).items()}
    return found


def _samples(party: Party, task: str, draws: int, number: int, **options: str) -> list[float]:
    return party(task, first=number * draws, count=draws, **options)


def floor(settings: config.Config, policy: str, patch: int, rates: Mapping[str, float]) -> float:
    """Least seconds of a sample: a patch read in float16 and written twice in float32 at the rate of reading; and,
    for the share of samples that are resampled, the weights of each voxel's neighbours at the rate of a matrix product."""
    used = settings.augmentations[policy]
    still = math.prod(1 - part.p for part in (used.rotation, used.scale, used.elastic) if part)
    taps = {"cubic": 4, "linear": 2}[used.interpolation] ** 3
    return patch**3 * (10 / rates["read"] + (1 - still) * 2 * taps / rates["multiply"])


def sample_table(samples: dict[str, dict[str, dict[str, float]]], names: dict[str, str]) -> str:
    """Markdown of `by_sample`, with ratios of medians and their goals; `names` of the peers."""
    rows, drawn = [], [peer for peer in PEERS if any(peer in having for _, having in SOURCES.values())]
    for source, columns in samples.items():
        for name in (*POLICIES, *SOURCES[source][1]):
            row = [f"{source} to tensor", names.get(name, f"`{name}`")]
            if numbers := columns.get(name):
                row += [_ms(numbers["median_of_rounds"]), f"{_ms(numbers['mean'])} ± {_ms(numbers['error'])}"]
            else:
                row += [NOT_MEASURED, ""]
            targets = dict(zip(GOALS_AGAINST, TARGETS.get(name, ()), strict=False))
            for peer in drawn:
                known = name in POLICIES and name in columns and peer in columns
                row.append(_times(columns[peer]["median_of_rounds"] / columns[name]["median_of_rounds"]) if known else "")
                if peer in GOALS_AGAINST:
                    row.append(f"{targets[peer]}x" if known and peer in targets else "")
            rows.append(row)
    ratios = [word for peer in drawn for word in (f"against {names[peer]}", *["at least"] * (peer in GOALS_AGAINST))]
    return harness.table(["from", "pipeline", "CPU ms per sample", "mean ± standard error", *ratios], rows)


def figures(samples: dict[str, dict[str, dict[str, Any]]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Seconds of a sample, by source and pipeline, as `harness.write_results` takes them; ours by policy."""
    return [
        harness.figure(
            "B1-B3",
            f"sample, {source} to tensor",
            names.get(name, f"{OURS}, {name}"),
            "s",
            columns.get(name, {}).get("rounds", []),
        )
        for source, columns in samples.items()
        for name in (*POLICIES, *SOURCES[source][1])
    ]


def goals(samples: dict[str, dict[str, dict[str, Any]]], names: dict[str, str]) -> list[dict[str, Any]]:
    """From disk to tensor: goals and results."""
    columns, found = samples["disk"], []
    for name, targets in TARGETS.items():
        for peer, target, identity in zip(GOALS_AGAINST, targets, IDS[name], strict=True):
            ratio = columns[peer]["median_of_rounds"] / columns[name]["median_of_rounds"] if peer in columns else None
            found.append(harness.goal(identity, f"sample, disk to tensor, {name}", names[peer], ratio, at_least=target))
    return found


def _ms(time_s: float) -> str:
    return f"{1e3 * time_s:.1f}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x"


def transform_table(rows: list[dict[str, Any]], peer: str) -> str:
    """Markdown of `by_transform`: this project and yucca 1.1.7, whose name is `peer`."""
    lines = []
    for row in rows:
        times = row["seconds"]
        cells = [NOT_MEASURED, "", ""]
        if "yucca" in times:
            cells = [_ms(times["yucca"]), _times(times["yucca"] / times[OURS]), _difference(row, "yucca")]
        lines.append([row["transform"], _ms(times[OURS]), *cells])
    return harness.table(["transform", "brainpretrain, CPU ms", f"{peer}, CPU ms", "ratio", "largest difference"], lines)


def others_table(rows: list[dict[str, Any]], names: Mapping[str, str], measured: Collection[str]) -> str:
    """Markdown of `by_transform`: this project and the `OTHERS`; blank if a library has no such transform."""
    lines = []
    for row in rows:
        line = [row["transform"], _ms(row["seconds"][OURS])]
        for peer in OTHERS:
            time_s = row["seconds"].get(peer)
            line.append(f"{_ms(time_s)} ({_times(time_s / row['seconds'][OURS])})" if time_s else _blank(peer, measured))
            if peer in EQUAL:
                line.append(_difference(row, peer) if time_s else "")
        lines.append(line)
    header = [word for peer in OTHERS for word in (names[peer], *["largest difference"] * (peer in EQUAL))]
    return harness.table(["transform, CPU ms (ratio)", "brainpretrain", *header], lines)


def _blank(peer: str, measured: Collection[str]) -> str:
    return "" if peer in measured else NOT_MEASURED


def _difference(row: Mapping[str, Any], peer: str) -> str:
    return f"{row['differences'][peer]:.1e}" if peer in row["differences"] else "own draws"


def main() -> None:
    """Runs the benchmark and prints both tables."""
    parser = script.parser(__doc__, "augmentation", rounds=7)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--draws", type=int, default=12, help="samples per round")
    parser.add_argument("--repeats", type=int, default=6, help="of each transform; the first one warms up")
    args = parser.parse_args()
    settings = config.load(ROOT / "config")
    policies = {name: settings.augmentations[name] for name in POLICIES}
    crop = Policy(policies["amaes"]).crop_size([args.patch] * 3)[0]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes, what = inputs(args.data, work, settings)
        paths = store(work, volumes, settings.preprocess["amaes"].model_dump(mode="json"))
        given = {
            "table": str(work / "table.tsv"), "work": folder, "patch": args.patch, "crop": crop, "volumes": paths,
            "policies": {name: policy.model_dump(mode="json") for name, policy in policies.items()},
        }  # fmt: skip
        parties, names = script.open_parties("party_brainpretrain.py", PEERS, given, args)
        ours, peers = parties.pop(script.OURS), parties
        samples = by_sample(ours, peers, args.rounds, args.draws)
        alone = {key: peer for key, peer in peers.items() if key in ("yucca", *OTHERS)}
        transforms = by_transform(ours, alone, work, args.patch, crop, args.repeats)
    rates = harness.rates(args.core)
    floors = [harness.figure("B1-B3", "sample, disk to tensor", "floor", "s", [floor(settings, "amaes", args.patch, rates)])]
    options = f"--rounds {args.rounds} --draws {args.draws} --repeats {args.repeats}"
    facts = harness.facts() | {"inputs": what, "command": f"python bench/augmentation.py {options}"}
    found = {"peers": names, "samples": samples, "transforms": transforms}
    tables = [
        sample_table(samples, names),
        transform_table(transforms, names["yucca"]),
        others_table(transforms, names, peers),
    ]
    script.finish(args, facts, tables, figures(samples, names) + floors, goals(samples, names), found)


if __name__ == "__main__":
    main()
