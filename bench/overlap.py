"""Detection of planted copies by the overlap audit, by kind of copy, and false pairs among all heads.

    make bench-overlap
    python bench/overlap.py --data FOLDER --pattern '*/T1.nii.gz' --mask dlmuse.nii.gz

Some heads of a folder are altered in each way of `planted.KINDS`. Copies and heads are stored, fingerprinted and compared by the
code of the workflow. A kind that needs a brain mask is left out for a head that has none. Real pairs follow if their data are
there: the people of OASIS-TRT-20 in the challenge of MICCAI 2012, people who were scanned twice, and two contrasts of a person.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

import harness
import script
from brainpretrain import config, datasets
from brainpretrain.cohorts import copies, fingerprints
from brainpretrain.cohorts.copies import LOOK, SAME, Volumes
from brainpretrain.files import write_tsv
from brainpretrain.preprocess import shards
from brainpretrain.preprocess.geometry import to_ras
from brainpretrain.preprocess.nifti import Volume, read_volume
from harness import ROOT
from planted import KINDS, NEED_BRAIN, Head

PREPROCESS = "coarse_2mm"
# NiChart's demo names these as other subjects; the audit found that their T1w volumes show one brain, as the pictures do
SCANNED_AGAIN = {"Subj9": "Subj8", "Subj10": "Subj8", "Subj16": "Subj15"}


class Store:
    """Volumes that are stored and fingerprinted as by the workflow, in a folder for each name of a data set."""

    def __init__(self, work: Path, settings: config.Config) -> None:
        self.work, self.recipe, self.near = work, settings.stored_as(PREPROCESS), settings.settings.near_copy
        self.seconds, self.volumes, self.comparing = 0.0, 0, 0.0  # CPU of fingerprints, their number; CPU of comparisons

    def add(self, name: str, files: dict[str, Path]) -> None:
        """Stores the raw files of a data set, by the name of each volume."""
        columns = dict.fromkeys(shards.INDEX_COLUMNS, "")
        rows = [columns | {"volume": volume, "subject": volume, "path": str(path)} for volume, path in files.items()]
        table = shards.build(rows, Path("/"), self.work / name, self.recipe, 0, 1)
        write_tsv(self.work / name / shards.JOINED, table)
        start = time.process_time()
        prints = fingerprints.build(table, self.work / name)
        self.seconds += time.process_time() - start
        self.volumes += len(prints.volumes)
        fingerprints.write(self.file(name), prints)

    def file(self, name: str) -> Path:
        return self.work / name / "fingerprints.npz"

    def names(self, name: str) -> list[str]:
        return fingerprints.read(self.file(name)).volumes

    def compare(self, cohort: str, corpora: Sequence[str]) -> pd.DataFrame:
        """All compared pairs of a data set with others, also those below the level `look`."""
        rows = pd.DataFrame([(name, volume) for name in corpora for volume in self.names(name)], columns=["dataset", "volume"])
        volumes = Volumes.of(self.file(cohort), self.names(cohort))
        start = time.process_time()
        found = copies.in_corpus(volumes, rows, {name: self.file(name) for name in corpora}, self.near, least=-1.0)
        self.comparing += time.process_time() - start
        return found


def read_head(path: Path, mask: str, seed: int) -> Head:
    """A head in RAS, with the brain mask beside it, or None."""
    volume = in_ras(path)
    beside = path.with_name(mask)
    return Head(volume, in_ras(beside).array > 0 if mask and beside.exists() else None, seed)


def in_ras(path: Path) -> Volume:
    volume = read_volume(path)
    array, affine, _ = to_ras(volume.array.astype(np.float32), volume.affine)
    spacing = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(np.ascontiguousarray(array), affine, spacing, volume.path, volume.facts)


def plant(heads: dict[str, Path], mask: str, kinds: Iterable[str], work: Path) -> dict[str, Path]:
    """Writes the copies of some heads; a copy of head `a` is called `a--3` for the third kind."""
    files = {}
    work.mkdir()
    for seed, (name, path) in enumerate(heads.items()):
        head = read_head(path, mask, seed)
        for kind in kinds:
            if head.brain is None and kind in NEED_BRAIN:
                continue
            volume = KINDS[kind](head)
            key = f"{name}--{list(KINDS).index(kind)}"
            files[key] = work / f"{key}.nii.gz"
            nib.save(nib.Nifti1Image(volume.array.astype(np.float32), volume.affine), files[key])
    return files


def by_kind(found: pd.DataFrame, copied: Sequence[str]) -> list[list[str]]:
    """A row per kind: copies, found at each level, lowest correlation, and wrong pairs."""
    found = found.assign(right=found["volume"].str.split("--").str[0] == found["corpus_volume"])
    rows = []
    for number, kind in enumerate(KINDS):
        names = [name for name in copied if name.endswith(f"--{number}")]
        if not names:
            continue
        part = found[found["volume"].isin(names)]
        right, wrong = part[part["right"]], part[~part["right"]]
        levels = right.sort_values("correlation").drop_duplicates("volume", keep="last").set_index("volume")["level"]
        cheap = right[~right["how"].str.startswith("brain")]["volume"].nunique()
        lowest = shown(right["correlation"].min()) if len(levels) == len(names) else "not found"
        counts = [str(len(names)), str((levels == SAME).sum()), str((levels == LOOK).sum()), str(cheap)]
        rows.append([kind, *counts, lowest, str((wrong["level"] != "").sum()), shown(wrong["correlation"].max())])
    return rows


def people(data: Path) -> dict[str, tuple[dict[str, Path], dict[str, str]]]:
    """Real data sets whose people are known: for each the raw files and the person of each volume; none if one is missing."""
    folders = {"trt20": "oasis_trt20_mindboggle", "miccai": "oasis_miccai2012", "t1w": "nichart_demo", "flair": "nichart_demo"}
    if not all((data / folder).is_dir() for folder in folders.values()):
        return {}
    with open(data / "manifest.csv", encoding="utf-8") as stream:
        scans = {row["case_id"]: row["subject"] for row in csv.DictReader(stream) if row["source"] == "oasis_miccai2012"}
    names = {"trt20": "T1_brain", "miccai": "T1_brain", "t1w": "T1", "flair": "FLAIR"}
    nichart = lambda name: SCANNED_AGAIN.get(name, name)  # noqa: E731
    person = {"trt20": datasets.load("oasis_trt20").persons or str, "miccai": scans.__getitem__, "t1w": nichart, "flair": nichart}
    found = {}
    for key, folder in folders.items():
        files = {path.parent.name: path for path in sorted((data / folder).glob(f"*/{names[key]}.nii.gz"))}
        found[key] = files, {name: person[key](name) for name in files}
    return found


def real_pairs(title: str, found: pd.DataFrame, one: dict[str, str], other: dict[str, str]) -> list[str]:
    """A row: pairs of one person between two data sets and of two people, at each level.

    Args:
        found: the compared pairs; a volume is not compared with itself.
        one, other: person of each volume of the two data sets.
    """
    pairs = {(a, b) for a in one for b in other if not (one is other and a >= b)}
    known = {(a, b) for a, b in pairs if one[a] == other[b]}
    found = found[[pair in pairs for pair in zip(found["volume"], found["corpus_volume"], strict=True)]]
    is_known = np.array([pair in known for pair in zip(found["volume"], found["corpus_volume"], strict=True)], bool)
    right, wrong = found[is_known], found[~is_known]
    levels = [str(int((right["level"] == level).sum())) for level in (SAME, LOOK)]
    wrong_cells = [str(len(pairs) - len(known)), str(int((wrong["level"] != "").sum())), shown(wrong["correlation"].max())]
    return [title, str(len(known)), *levels, shown(right["correlation"].median()), *wrong_cells]


def real_table(store: Store, data: Path) -> list[list[str]]:
    """Rows of the real cases; none without the data."""
    known = people(data)
    for name, (files, _) in known.items():
        store.add(name, files)
    cases = {
        "OASIS-TRT-20 and MICCAI 2012": ("trt20", "miccai"),
        "scans of MICCAI 2012": ("miccai", "miccai"),
        "scans of NiChart's demo, T1w": ("t1w", "t1w"),
        "FLAIR and T1w of NiChart's demo": ("flair", "t1w"),
    }
    rows = []
    for title, (one, other) in cases.items() if known else ():
        rows.append(real_pairs(title, store.compare(one, [other]), known[one][1], known[other][1]))
    return rows


def shown(correlation: float) -> str:
    """A correlation, or that no pair was near enough to be compared."""
    return "none compared" if np.isnan(correlation) else f"{correlation:.3f}"


def planted_table(store: Store, args: argparse.Namespace) -> tuple[list[list[str]], pd.DataFrame, int, int]:
    """Rows by kind, the compared pairs of different heads, the number of heads, and of compared pairs."""
    heads = {path.parent.name: path for path in sorted(args.data.glob(args.pattern))[: args.heads]}
    chosen = np.array(list(heads))[np.linspace(0, len(heads) - 1, args.copies).astype(int)]
    planted = plant({name: heads[name] for name in chosen}, args.mask, args.kinds, store.work / "raw")
    store.add("copies", planted)
    store.add("heads", heads)
    found, others = store.compare("copies", ["heads"]), store.compare("heads", ["heads"])
    compared = sum(int(pairs["how"].str.startswith("brain").sum()) for pairs in (found, others))
    return by_kind(found, list(planted)), others[others["volume"] < others["corpus_volume"]], len(heads), compared


def main(argv: Sequence[str] | None = None) -> None:
    """Prints detection by kind, false pairs, real pairs, and the cost."""
    parser = script.parser(__doc__, "overlap", rounds=1, parties=False)
    parser.add_argument("--pattern", default="ixi_2mm/*/T1.nii.gz", help="heads below --data, one per folder")
    parser.add_argument("--mask", default="dlmuse.nii.gz", help="file beside each head that is above 0 in the brain")
    parser.add_argument("--copies", type=int, default=8, help="heads that are altered")
    parser.add_argument("--heads", type=int, default=None, help="heads that are compared with each other; default all")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    args = parser.parse_args(argv)
    os.environ |= harness.ONE_THREAD
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place), config.load(ROOT / "config"))
        rows, others, n, compared = planted_table(store, args)
        pair_seconds = store.comparing / max(1, compared)
        real = real_table(store, args.data)
    each, false = store.seconds / store.volumes, int((others["level"] != "").sum())
    text = (
        f"{n} heads, {n * (n - 1) // 2:,} pairs of different heads: {false} false pairs; the highest of those compared: "
        f"{shown(others['correlation'].max())}. A fingerprint takes {each:.2f} s of CPU, a comparison {pair_seconds:.2f} s."
    )
    header = ["kind of copy", "copies", "same", "look", "by the outline", "lowest", "wrong pairs", "highest wrong"]
    tables = [harness.table(header, rows), text]
    if real:
        header = ["real pairs", "of one person", "same", "look", "median", "of two people", "wrong pairs", "highest wrong"]
        tables.append(harness.table(header, real))
    shares = [(row[0], int(row[2]) / int(row[1])) for row in rows]
    goals = [harness.goal("B13", f"{kind}: found", "copies", share, at_least=7 / 8) for kind, share in shares]
    goals.append(harness.goal("B13", "false pairs of heads", "0", float(false), at_most=0))
    figures = [
        harness.figure("B13", "fingerprint of a volume", "brainpretrain", "s", [each]),
        harness.figure("B13", "comparison of a pair", "brainpretrain", "s", [pair_seconds]),
    ]
    facts = harness.facts() | {"command": f"python bench/overlap.py --copies {args.copies}", "inputs": args.pattern}
    script.finish(args, facts, tables, figures, goals, {"rows": rows, "real": real})


if __name__ == "__main__":
    main()
