"""Detection of planted copies by the overlap audit, by kind of copy, and false pairs among all heads.

    make bench-overlap
    python bench/overlap.py --data FOLDER --pattern '*/T1.nii.gz' --mask dlmuse.nii.gz

Some heads of a folder are altered in each way of `planted.KINDS`. Copies and heads are stored, fingerprinted and compared by the
code of the workflow. A kind that needs a brain mask is left out for a head that has none. Two real cases follow if their data are
there: the people of OASIS-TRT-20 in the challenge of MICCAI 2012, and all pairs of different people.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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


class Store:
    """Volumes that are stored and fingerprinted as by the workflow, in a folder for each name of a data set."""

    def __init__(self, work: Path, settings: config.Config) -> None:
        self.work, self.recipe, self.near = work, settings.stored_as(PREPROCESS), settings.settings.near_copy
        self.seconds, self.volumes = 0.0, 0

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
        return copies.in_corpus(volumes, rows, {name: self.file(name) for name in corpora}, self.near, least=-1.0)


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


def persons(data: Path) -> dict[str, dict[str, str]]:
    """By data set, subject to person: from the module, and for MICCAI 2012 from the manifest of the shared data."""
    with open(data / "manifest.csv", encoding="utf-8") as stream:
        miccai = {row["case_id"]: row["subject"] for row in csv.DictReader(stream) if row["source"] == "oasis_miccai2012"}
    trt = datasets.load("oasis_trt20").persons
    names = {path.name for path in (data / "oasis_trt20_mindboggle").glob("OASIS-TRT-20-*")}
    return {"trt20": {name: trt(name) for name in names}, "miccai": miccai}


def real_pairs(found: pd.DataFrame, people: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Pairs of one person and of two people between the two data sets, at each level."""
    known = {(a, b) for a in people["trt20"] for b in people["miccai"] if people["trt20"][a] == people["miccai"][b]}
    pairs = list(zip(found["volume"], found["corpus_volume"], strict=True))
    right = found[[pair in known for pair in pairs]]
    wrong = found[[pair not in known for pair in pairs]]
    return {
        "pairs": len(known),
        "people": len({people["trt20"][a] for a, _ in known}),
        "same": int((right["level"] == SAME).sum()),
        "look": int((right["level"] == LOOK).sum()),
        "lowest": shown(right["correlation"].min()),
        "others": len(people["trt20"]) * len(people["miccai"]) - len(known),
        "wrong": int((wrong["level"] != "").sum()),
        "highest": shown(wrong["correlation"].max()),
    }


def shown(correlation: float) -> str:
    """A correlation, or that no pair was near enough to be compared."""
    return "none compared" if np.isnan(correlation) else f"{correlation:.3f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Prints detection by kind, false pairs, and the cost."""
    parser = script.parser(__doc__, "overlap", rounds=1, parties=False)
    parser.add_argument("--pattern", default="ixi_2mm/*/T1.nii.gz", help="heads below --data, one per folder")
    parser.add_argument("--mask", default="dlmuse.nii.gz", help="file beside each head that is above 0 in the brain")
    parser.add_argument("--copies", type=int, default=8, help="heads that are altered")
    parser.add_argument("--heads", type=int, default=None, help="heads that are compared with each other; default all")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    args = parser.parse_args(argv)
    os.environ |= harness.ONE_THREAD
    heads = {path.parent.name: path for path in sorted(args.data.glob(args.pattern))[: args.heads]}
    chosen = {name: heads[name] for name in np.array(list(heads))[np.linspace(0, len(heads) - 1, args.copies).astype(int)]}
    settings = config.load(ROOT / "config")
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place), settings)
        planted = plant(chosen, args.mask, args.kinds, Path(place) / "raw")
        store.add("copies", planted)
        store.add("heads", heads)
        start = time.process_time()
        found = store.compare("copies", ["heads"])
        others = store.compare("heads", ["heads"])
        compared = (found["how"].str.startswith("brain")).sum() + (others["how"].str.startswith("brain")).sum()
        pair_seconds = (time.process_time() - start) / max(1, int(compared))
        real = None
        if (args.data / "oasis_miccai2012").is_dir() and (args.data / "oasis_trt20_mindboggle").is_dir():
            for name, pattern in (("trt20", "oasis_trt20_mindboggle"), ("miccai", "oasis_miccai2012")):
                store.add(name, {p.parent.name: p for p in sorted(args.data.glob(f"{pattern}/*/T1_brain.nii.gz"))})
            real = real_pairs(store.compare("trt20", ["miccai"]), persons(args.data))
        each = store.seconds / store.volumes
    others = others[others["volume"] != others["corpus_volume"]]
    rows = by_kind(found, list(planted))
    n = len(heads)
    text = (
        f"{n} heads, {n * (n - 1) // 2:,} pairs of different heads: {(others['level'] != '').sum()} false pairs; the highest of "
        f"{len(others) // 2:,} compared: {shown(others['correlation'].max())}. A fingerprint takes {each:.2f} s of CPU, "
        f"a comparison {pair_seconds:.2f} s."
    )
    if real:
        text += (
            f"\n\nOASIS-TRT-20 and MICCAI 2012: {real['same']} of {real['pairs']} pairs of {real['people']} people are `same`, "
            f"{real['look']} `look`, lowest {real['lowest']}; of {real['others']} pairs of different people {real['wrong']} are "
            f"found, highest {real['highest']}."
        )
    header = ["kind of copy", "copies", "same", "look", "by the outline", "lowest", "wrong pairs", "highest wrong"]
    shares = [(row[0], int(row[2]) / int(row[1])) for row in rows]
    goals = [harness.goal("B13", f"{kind}: found", "copies", share, at_least=7 / 8) for kind, share in shares]
    goals.append(harness.goal("B13", "false pairs of heads", "0", float((others["level"] != "").sum()), at_most=0))
    figures = [
        harness.figure("B13", "fingerprint of a volume", "brainpretrain", "s", [each]),
        harness.figure("B13", "comparison of a pair", "brainpretrain", "s", [pair_seconds]),
    ]
    facts = harness.facts() | {"command": f"python bench/overlap.py --copies {args.copies}", "inputs": args.pattern}
    details = {"rows": rows, "real": real}
    script.finish(args, facts, [harness.table(header, rows), text], figures, goals, details)


if __name__ == "__main__":
    main()
