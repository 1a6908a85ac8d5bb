"""The cost of 45,000 volumes before the first of them is read: planning, indexes, splits, corpus, overlap.

A fake corpus of the size of BRAINS-45K: indexes and tables of stored volumes of its nine sources with the published numbers of
subjects, sessions and volumes, random fingerprints, and no images. tests/bench/test_planning.py also uses `make`.

    python bench/planning.py --out FOLDER            # prints seconds and memory of every step
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from brainpretrain import datasets
from brainpretrain.cohorts import fingerprints, likeness
from brainpretrain.config import Config, load
from brainpretrain.files import stable_hash, write_tsv
from brainpretrain.preprocess.shards import INDEX_COLUMNS, RECORD_COLUMNS

SEQUENCES = ("T1w", "T2w", "FLAIR", "PDw", "DWI", "ADC", "T1ce", "SWI")
SOURCES = [name for name in datasets.names() if datasets.load(name).brains45k]


def index(name: str, scale: float) -> pd.DataFrame:
    """An index with the published numbers of subjects, sessions and volumes of a source, times `scale`.

    BraTS21 gets its whole training release, since a task draws its pool from it, and WMH its test cases as well.
    """
    module = datasets.load(name)
    counts = dict(module.brains45k or {})
    if name == "brats21":
        counts = {"subjects": 1251, "sessions": 1251, "volumes": 5004}
    subjects, sessions, volumes = (max(1, round(counts[part] * scale)) for part in ("subjects", "sessions", "volumes"))
    whose = np.sort(np.arange(sessions) % subjects)  # every subject has a session, some have more
    of_session = np.sort(np.arange(max(volumes, sessions)) % sessions)
    rows = pd.DataFrame(
        {"subject": [f"{name}-{number:05d}" for number in whose[of_session]], "session": [f"{n:05d}" for n in of_session]}
    )
    run = rows.groupby("session").cumcount()
    first = {"brats21": "FLAIR", "isles22": "DWI", "wmh": "FLAIR"}.get(name, "T1w")
    order = [first, *(sequence for sequence in SEQUENCES if sequence != first)]
    rows["sequence"] = [order[number % len(order)] for number in run]
    rows["volume"] = rows["subject"] + "_" + rows["session"] + "_" + run.astype(str) + "_" + rows["sequence"]
    subset = "unlabelled" if name == "msd_brain_tumour" else "train"
    rows = rows.assign(
        patient=rows["subject"], subset=subset, site="", path=rows["volume"] + ".nii.gz", label="", channel="", source_bytes="1"
    )
    if name in ("brats21", "isles22", "wmh"):
        rows["label"] = rows["volume"] + "_label.nii.gz"
    if name == "wmh":
        rows["site"] = [("Utrecht", "Singapore", "Amsterdam/GE3T")[number % 3] for number in rows["subject"].factorize()[0]]
        others = [_renamed(rows, prefix).assign(subset="test") for prefix in ("x", "y")]
        rows = pd.concat([rows, *others], ignore_index=True)
    return rows.sort_values("volume")[[*INDEX_COLUMNS, "source_bytes"]]


def _renamed(rows: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The same rows with other subjects."""
    return rows.assign(**{name: prefix + rows[name] for name in ("volume", "subject", "patient")})


def stored(rows: pd.DataFrame) -> pd.DataFrame:
    """The table of stored volumes of rows that were all accepted."""
    record = dict.fromkeys(RECORD_COLUMNS, "") | {
        "status": "ok",
        "shape": "160 190 170",
        "native_spacing_mm": "1.0 1.0 1.2",
        "mean": "0.21",
    }
    record |= {"spacing_mm": "1 1 1", "bytes": "4000000"}
    checksums = rows["volume"].map(lambda volume: f"{stable_hash(volume):016x}")  # equal ones would be copies
    record |= {"checksum": checksums, "file": "volumes/" + rows["volume"] + ".b2nd"}
    return rows.assign(**record)[[*INDEX_COLUMNS, *RECORD_COLUMNS]]


def random_fingerprints(rows: pd.DataFrame, seed: int) -> fingerprints.Fingerprints:
    """Unit vectors of noise: no two volumes are similar."""
    rng, found = np.random.default_rng(seed), []
    for length in (fingerprints.SIDE**3, likeness.length()):
        vectors = np.empty((len(rows), length), np.float16)
        for start in range(0, len(rows), 1024):
            block = rng.standard_normal((min(1024, len(rows) - start), length), dtype=np.float32)
            vectors[start : start + 1024] = block / np.linalg.norm(block, axis=1, keepdims=True)
        found.append(vectors)
    maps, shares = np.zeros((len(rows), 3, 4), np.float32), np.zeros(len(rows), np.float32)
    digests = [f"{name:0>64}" for name in rows["volume"]]
    return fingerprints.Fingerprints(rows["volume"].tolist(), digests, *found, maps, shares)


def make(out: Path, config: Config, scale: float = 1.0) -> dict[str, int]:
    """Writes indexes, tables of stored volumes and fingerprints of the nine sources below `out`; the volumes of each."""
    volumes = {}
    for number, name in enumerate(SOURCES):
        rows, folder = index(name, scale), out / "data" / name / "amaes"
        write_tsv(out / "data" / name / "index.tsv", rows)
        write_tsv(folder / "volumes.tsv", stored(rows))
        fingerprints.write(folder / "fingerprints.npz", random_fingerprints(rows, number))
        volumes[name] = len(rows)
    return volumes


def raw_tree(root: Path, subjects: int) -> None:
    """Empty files in the layout of BraTS21, five a subject."""
    for number in range(subjects):
        folder = root / f"BraTS2021_{number:05d}"
        folder.mkdir(parents=True)
        for part in ("t1", "t1ce", "t2", "flair", "seg"):
            (folder / f"{folder.name}_{part}.nii.gz").touch()


def commands(out: Path, config: Config) -> dict[str, list[str]]:
    """The steps between indexing and pretraining, as the rules call them."""
    corpus = config.corpora["brains45k"]
    tables = [f"{name}={out}/data/{name}/amaes/volumes.tsv" for name in SOURCES]
    spec = json.dumps(corpus.model_dump(mode="json", include={"sources", "val_fraction"}))
    lines = {"index": ["index", "--dataset", "brats21", "--root", f"{out}/raw", "--out", f"{out}/index.tsv"]}
    cohorts, prints = [], []
    for task, cohort in (("brats21_flair", "test"), ("isles22_dwi", "val"), ("wmh_flair", "val"), ("wmh_flair", "ood")):
        entry = config.tasks[task]
        split, rows = out / f"{task}.json", f"{out}/data/{entry.dataset}/index.tsv"
        as_json = entry.model_dump_json(include={"dataset", "sequences", "subsets", "split", "ood"})
        if cohort == "ood":
            lines[f"ood {task}"] = [
                "ood",
                "--index",
                rows,
                "--task",
                as_json,
                "--subjects",
                str(split),
                "--out",
                f"{out}/ood.json",
            ]
            split = out / "ood.json"
        else:
            lines[f"split {task}"] = ["split", "--index", rows, "--task", as_json, "--out", str(split)]
        cohorts.append(f"{task}:{cohort}={split}")
        prints.append(f"{task}:{cohort}={out}/data/{entry.dataset}/amaes/fingerprints.npz")
    modules = json.dumps({name: {"module": name, "options": {}} for name in SOURCES})
    pool = f"brats21_flair={out}/brats21_flair.json"
    lines["corpus"] = ["corpus", "--volumes", *tables, "--pools", pool, "--data", f"{out}/data", "--corpus", spec, "--seed", "0",
                       "--out", f"{out}/corpus.tsv"]  # fmt: skip
    lines["overlap"] = ["overlap", "--corpus", f"{out}/corpus.tsv", "--cohorts", *cohorts, "--cohort-fingerprints", *prints,
                        "--indexes", *(f"{name}={out}/data/{name}/index.tsv" for name in SOURCES),
                        "--fingerprints", *(f"{name}={out}/data/{name}/amaes/fingerprints.npz" for name in SOURCES),
                        "--near", str(config.settings.near_copy), "--protocol", "amaes",
                        "--out", f"{out}/overlap.tsv", "--pairs", f"{out}/pairs.tsv",
                        "--pictures", f"{out}/pairs.npz"]  # fmt: skip
    lines["composition"] = ["composition", "--corpus", f"{out}/corpus.tsv", "--name", "brains45k", "--volumes", *tables, "--data",
                            f"{out}/data", "--modules", modules, "--out", f"{out}/table1.tsv",
                            f"{out}/table1.md"]  # fmt: skip
    return {name: [sys.executable, "-m", "brainpretrain.cli", *line] for name, line in lines.items()}


def measured(line: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MB of a command, by GNU time, which measures this command alone."""
    done = subprocess.run(
        ["/usr/bin/time", "-f", "%e %U %S %M", *line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, user, system, kilobytes = map(float, done.stderr.split()[-4:])
    return seconds, user + system, kilobytes / 1024


def main() -> None:
    """Makes the fake corpus, runs every step once and prints time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder; 1.3 GB")
    args = parser.parse_args()
    config = load("config")
    volumes = make(args.out, config)
    raw_tree(args.out / "raw", 9000)
    print(f"{sum(volumes.values()):,} volumes in {len(volumes)} data sets; 45,000 empty raw files")
    snakemake = [str(Path(sys.executable).with_name("snakemake")), "--profile", "local", "--cores", "1", "--quiet", "all"]
    steps = itertools.chain({"dry run of the study amaes": [*snakemake, "-n"]}.items(), commands(args.out, config).items())
    for name, line in steps:
        seconds, cpu, megabytes = measured(line)
        print(f"{name:28} {seconds:7.1f} s {cpu:7.1f} s of CPU {megabytes:7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
