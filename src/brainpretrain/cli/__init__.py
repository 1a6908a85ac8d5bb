"""The command `brainpretrain`: one subcommand per step of the workflow, each usable by hand.

Subcommands import what they need when they run, so `--help` and preprocessing start without torch.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from brainpretrain.errors import UserError

_COMMANDS: list[tuple[str, str, Callable, list]] = []


def arg(*names: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One argument of a subcommand, as for `argparse.add_argument`."""
    return names, options


def command(name: str, summary: str, *arguments: tuple) -> Callable:
    """Registers a function as subcommand; its docstring is the long help."""

    def register(function: Callable) -> Callable:
        _COMMANDS.append((name, summary, function, list(arguments)))
        return function

    return register


def _mapping(text: str) -> dict[str, Any]:
    """A mapping given as JSON text, or as @file with YAML or JSON inside."""
    if text.startswith("@"):
        path = Path(text[1:])
        if path.suffix != ".json":
            from brainpretrain.config import read_yaml

            return read_yaml(path)
        text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"neither JSON nor @file: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON mapping")
    return value


def _numbers(text: str) -> list[int]:
    """Integers separated by commas."""
    return [int(word) for word in text.split(",") if word]


def _folder(text: str) -> Path | None:
    """A folder that must be there; nothing for ''."""
    if text and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{text}'")
    return Path(text) if text else None


OUT = arg("--out", type=Path, required=True, metavar="FILE", help="file to write")
DATASET = arg("--dataset", required=True, metavar="NAME", help="module in datasets/ that describes the data set")
INDEX = arg("--index", type=Path, required=True, metavar="TSV", help="index of the data set")
ROOT = arg("--root", type=Path, required=True, metavar="DIR", help="folder of the raw files")
VOLUMES = arg("--volumes", type=Path, required=True, metavar="TSV", help="stored volumes of the data set (`volumes` writes it)")
NAMED_VOLUMES = arg(
    "--volumes", nargs="+", required=True, metavar="NAME=TSV", help="stored volumes of each data set, by its name"
)
DATA = arg("--data", type=Path, required=True, metavar="DIR", help="folder of the preprocessed data sets")
SPLIT = arg("--split", type=Path, required=True, metavar="JSON", help="split of the fold")
TASK = arg("--task", type=_mapping, required=True, metavar="JSON", help="task entry (JSON, or @file.yaml)")
CONFIG = arg(
    "--config",
    type=_mapping,
    required=True,
    metavar="JSON",
    help="what shapes the result (JSON, or @config.yaml of an earlier run)",
)
MACHINE = (
    arg("--devices", type=int, default=1, help="GPUs (or CPU processes) over all nodes; changes the speed, never the result"),
    arg("--nodes", type=int, default=1, help="nodes"),
    arg("--threads", type=int, default=1, help="CPU threads per process"),
    arg("--workers", type=int, default=0, help="loader processes per device (0: load in the training process)"),
    arg("--work", type=Path, required=True, metavar="DIR", help="where resume state is kept until the training ends"),
    arg("--save-every", type=int, default=500, metavar="STEPS", help="steps between two checkpoints: what a killed run may lose"),
    arg("--max-idle-attempts", type=int, default=5, metavar="N", help="attempts in a row that save nothing"),
    arg("--max-nonfinite-steps", type=int, default=5, metavar="N", help="steps in a row with a loss of NaN or Inf"),
    arg("--tensorboard", action="store_true", help="also write TensorBoard events"),
    arg("--execution", nargs="*", default=[], choices=["compile", "channels_last", "checkpointing"],
        help="how networks are computed; changes speed and memory, but for rounding never the result"),
)  # fmt: skip


OPTIONS = arg("--options", type=_mapping, default={}, metavar="JSON", help="options of the data set's entry in the config")


@command(
    "datasets", "list the data sets with access, licence and counts, and what of them is in place",
    arg("--config-folder", type=Path, default=Path("config"), metavar="DIR", help="says where raw files are, and names own data"),
    arg("--data-root", metavar="DIR", help="where raw files are instead"),
    arg("--json", action="store_true", help="as JSON, with title, page, citation and what is wrong with the files"),
    arg("--markdown", action="store_true", help="as the table of docs/data_access.md; looks at no file"),
)  # fmt: skip
def list_datasets(args: argparse.Namespace) -> None:
    """Prints every module in datasets/ and every data set of the config.

    Subjects and volumes are those of the complete release; BRAINS-45K are the volumes that it gives to that corpus. What is in
    place is read off file names; nothing is opened. A pipe gets 200 columns unless COLUMNS says otherwise.
    """
    from rich.console import Console

    from brainpretrain import config, datasets
    from brainpretrain.download import listing

    if args.markdown:
        print(listing.markdown(datasets.names()), end="")
        return
    known = config.load(args.config_folder, {"data_root": args.data_root, "data_roots": {}} if args.data_root else None)
    modules = {name: (name, {}) for name in datasets.names()}
    modules |= {name: (entry.module, entry.options) for name, entry in known.datasets.items()}
    places = {name: (datasets.describe(*entry), Path(known.data_root(name))) for name, entry in modules.items()}
    rows = listing.listing(places)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    console.print(listing.table(rows, console.width))


@command(
    "check", "say what a folder of volumes is understood to be",
    arg("folder", type=Path, metavar="FOLDER", help="folder of volumes, or a CSV that lists them"),
    arg("--json", action="store_true", help="as JSON"),
)  # fmt: skip
def check(args: argparse.Namespace) -> None:
    """Prints format, subjects, sequences, labels, spacing, problems, and the YAML that makes it a data set.

    Understood are the data sets of datasets/, BIDS, nnU-Net's raw data, and a CSV with the columns subject, sequence and path.
    """
    from brainpretrain.download import recognise as module

    facts = module.understand(args.folder)
    print(json.dumps(facts, indent=2) if args.json else module.report(facts))
    if facts["problems"]:
        found = len(facts["problems"])
        raise UserError(f"{found} problem{'s' * (found > 1)}, listed above", where=args.folder, fix="mend them, then check again")


@command(
    "fetch", "see that a data set is in place, or say exactly what to do",
    DATASET, ROOT, OPTIONS, OUT,
)  # fmt: skip
def fetch(args: argparse.Namespace) -> None:
    """Writes what was found: absolute folder, layout, number of volumes. Embedded data sets are made here, NRRD is converted."""
    from brainpretrain import datasets
    from brainpretrain.datasets.base import to_fetch
    from brainpretrain.download.archives import markers
    from brainpretrain.download.verify import fetch as run
    from brainpretrain.files import write_json

    described = datasets.describe(args.dataset, args.options)
    facts = run(described, args.root, **({} if args.dataset in datasets.TEMPLATES else args.options))
    write_json(args.out, facts | {"archives": markers(args.root)})
    print(f"{args.dataset}: {facts['volumes']} volumes in {facts['root']}")
    if facts["unexpected"]:
        print(f"files that nothing uses ({facts['unexpected_files']}): {', '.join(facts['unexpected'])}")
    if facts["left_out"]:
        print(f"{facts['left_out']} volumes left out by the selection of series")
    if facts["dangling"]:
        print(to_fetch(facts["dangling"]))
    if facts["note"]:
        print(facts["note"])


@command("index", "list the volumes of a data set, by file names alone", DATASET, ROOT, OPTIONS, OUT)
def index(args: argparse.Namespace) -> None:
    """Writes index.tsv: volume, subject, patient, session, sequence, subset, site, path, label, channel, source_bytes."""
    from brainpretrain import datasets
    from brainpretrain.datasets.base import scan, to_fetch, with_sizes
    from brainpretrain.files import write_tsv

    found = scan(datasets.describe(args.dataset, args.options), args.root)
    rows = with_sizes(found.rows, args.root)
    write_tsv(args.out, rows)
    if found.dangling:
        print(to_fetch(found.dangling))
    print(f"{args.dataset}: {len(rows)} volumes of {len({row['subject'] for row in rows})} subjects")


@command(
    "download", "get a data set, check and unpack it, and convert DICOM",
    DATASET,
    ROOT,
    arg("--incoming", type=Path, metavar="DIR",
        help="where you put archives, and where downloads go (default: incoming/<data set> beside the folder of the raw files)"),
    arg("--mirror", type=_folder, metavar="DIR", help="folder that is searched for archives before the network is asked"),
    arg("--out", type=Path, metavar="FILE", help="also write what was found as JSON"),
)  # fmt: skip
def download(args: argparse.Namespace) -> None:
    """Continues where it broke off. What is in place already is only looked at, and what you placed is not touched.

    Credentials come from the environment: SYNAPSE_AUTH_TOKEN; XNAT_USER and XNAT_PASSWORD; HF_TOKEN; ATLAS_PASSWORD.
    """
    from brainpretrain import datasets
    from brainpretrain.download.obtain import obtain
    from brainpretrain.files import write_json

    incoming = args.incoming or args.root.absolute().parent / "incoming" / args.dataset
    facts = obtain(datasets.load(args.dataset), args.root, incoming, args.mirror)
    if args.out:
        write_json(args.out, facts)
    print(f"{args.dataset}: {facts['volumes']} volumes in {facts['root']}")
    if facts["note"]:
        print(facts["note"])


@command(
    "shard", "preprocess one shard of a data set",
    INDEX, ROOT,
    arg("--recipe", type=_mapping, required=True, metavar="JSON", help="preprocess entry (JSON, or @file.yaml)"),
    arg("--shard", type=int, required=True, metavar="N", help="number of this shard, from 0"),
    arg("--n-shards", type=int, required=True, metavar="N", help="shards of the data set"),
    arg("--workers", type=int, default=1, help="processes"),
    arg("--max-rejected", type=float, required=True, metavar="SHARE", help="more rejected volumes than this (0..1) are an error"),
    arg("--labels", type=_numbers, default=[], metavar="N,N", help="values that a label may hold beside 0 (any, without it)"),
    OUT,
)  # fmt: skip
def shard(args: argparse.Namespace) -> None:
    """Stores float16 images and integer labels in <folder of OUT>/volumes, and a row per volume in OUT.

    A volume that cannot be used is a row 'rejected' with a reason; what is odd about an accepted one is a remark in its row.
    A killed shard continues where it was.
    """
    from brainpretrain.files import read_tsv, write_tsv
    from brainpretrain.preprocess import shards

    if interrupted := shards.interrupted(args.out.parent, args.shard):
        print(f"an earlier attempt was killed while preprocessing {', '.join(interrupted)}; finished volumes are kept")
    rows = read_tsv(args.index).to_dict("records")
    table = shards.build(
        rows, args.root, args.out.parent, args.recipe, args.shard, args.n_shards, args.workers, _progress("volume"), args.labels
    )
    rejected = table[table["status"] == "rejected"]
    for row in table.to_dict("records"):
        if row["status"] == "rejected":
            print(f"rejected {row['path']}: {row['reason']} ({row['detail']})")
        elif row["detail"]:
            print(f"remark on {row['path']}: {row['detail']}")
    shards.check_rejected(table, args.max_rejected)
    write_tsv(args.out, table)
    print(f"shard {args.shard}: {len(table) - len(rejected)} volumes stored, {len(rejected)} rejected")


@command(
    "volumes", "join the tables of a data set's shards to the table of its stored volumes",
    arg("tables", type=Path, nargs="+", metavar="TSV", help="tables of all its shards, in one folder"), OUT,
)  # fmt: skip
def volumes(args: argparse.Namespace) -> None:
    """OUT belongs into the folder of the shards, since the rows name their files by their place in it."""
    from brainpretrain.files import read_json, write_tsv
    from brainpretrain.preprocess import shards

    if odd := [path for path in args.tables if path.parent.absolute() != args.out.parent.absolute()]:
        problem = f"its rows name files of {odd[0].parent}, and would be looked for in {args.out.parent}"
        raise UserError(problem, where=odd[0], fix=f"--out {odd[0].parent / args.out.name}")
    kept, given = args.out.parent / shards.RECIPE, len(set(args.tables))
    if kept.exists() and (made := read_json(kept)["n_shards"]) != given:
        raise UserError(f"tables of {given} shards, the data set has {made}", where=args.out.parent, fix="name each table once")
    write_tsv(args.out, _joined(args.tables))


@command(
    "split", "split the subjects of a task into pool and test",
    INDEX, TASK,
    arg("--asked", nargs="*", default=[], metavar="N:COHORT", help="n_train and cohort of each evaluation: are there enough?"),
    OUT,
)  # fmt: skip
def split(args: argparse.Namespace) -> None:
    """Writes the subjects of pool and fixed test set as JSON, with the seed inside."""
    from brainpretrain.cohorts import splits
    from brainpretrain.files import read_tsv, write_json

    index = read_tsv(args.index)
    if lacking := splits.incomplete(index, args.task):
        print("\n".join([f"{len(lacking)} labelled subjects lack a sequence of the task, and are no cases of it:", *lacking]))
    found = splits.split(index, args.task)
    asked = [(n_train, cohort) for n_train, cohort in (pair.split(":") for pair in args.asked)]
    splits.check_asked(found, asked, f"{args.index}, task on {args.task['dataset']}")
    write_json(args.out, found)
    print(f"pool {len(found['pool'])}, test {len(found['test'])} subjects")


SUBJECTS = arg("--subjects", type=Path, required=True, metavar="JSON", help="what `split` wrote")


@command("ood", "list the subjects of a task's out-of-distribution cohort", INDEX, TASK, SUBJECTS, OUT)
def ood(args: argparse.Namespace) -> None:
    """Writes them as JSON. --index is that of the cohort's data set; a subject of pool or test among them is an error."""
    from brainpretrain.cohorts import splits
    from brainpretrain.files import read_json, read_tsv, write_json

    found = splits.ood(read_tsv(args.index), args.task, read_json(args.subjects))
    write_json(args.out, found)
    print(f"ood {len(found['ood'])} subjects")


@command(
    "fold", "put the pool into the order in which one fold draws training cases",
    SUBJECTS,
    arg("--fold", type=int, required=True, help="number of the fold, from 0"),
    arg("--block", type=int, required=True, help="this many first cases are disjoint between neighbouring folds"),
    OUT,
)  # fmt: skip
def fold(args: argparse.Namespace) -> None:
    """The first n subjects of the order are this fold's n_train, so label budgets are nested."""
    from brainpretrain.cohorts import splits
    from brainpretrain.files import read_json, write_json

    write_json(args.out, splits.fold(read_json(args.subjects), args.fold, args.block))


@command(
    "corpus", "choose the volumes of a pretraining",
    NAMED_VOLUMES,
    DATA,
    arg("--corpus", type=_mapping, required=True, metavar="JSON", help="corpus entry (JSON, or @file.yaml)"),
    arg("--pools", nargs="*", default=[], metavar="TASK=JSON", help="subjects of the tasks that the corpus names in 'pool_of'"),
    arg("--seed", type=int, required=True, help="draws the validation subjects"),
    OUT,
)  # fmt: skip
def corpus(args: argparse.Namespace) -> None:
    """Writes corpus.tsv: the volumes with their role, train or val, split by subject."""
    from brainpretrain.cohorts.corpus import copies, make_corpus
    from brainpretrain.cohorts.splits import training_pool
    from brainpretrain.files import read_json, write_tsv

    pools = {task: set(training_pool(read_json(path))) for task, path in (pair.split("=", 1) for pair in args.pools)}
    tables = _tables(args.volumes, args.data)
    rows = make_corpus(tables, args.corpus, pools, args.seed)
    for same in copies(_of_corpus(tables, rows)):
        print(f"one image under several names, all of them to train or all to validate: {' = '.join(same)}")
    write_tsv(args.out, rows)
    n_val = int((rows["role"] == "val").sum())
    print(f"corpus: {len(rows) - n_val} volumes to train, {n_val} to validate")


def _of_corpus(tables: dict[str, Any], rows: Any) -> Any:
    """The rows of tables of stored volumes that are in a corpus."""
    import pandas as pd

    whole = pd.concat([table.assign(dataset=name) for name, table in tables.items()], ignore_index=True)
    return whole.merge(rows[["dataset", "volume"]], on=["dataset", "volume"])


@command(
    "fingerprint", "fingerprint the stored volumes of a data set, to find copies of them elsewhere",
    VOLUMES, OUT,
)  # fmt: skip
def fingerprint(args: argparse.Namespace) -> None:
    """Writes an .npz: a digest of the voxels and a vector that a copy keeps almost, for every accepted volume."""
    from brainpretrain.cohorts import fingerprints

    table, folder = _stored(args.volumes)
    found = fingerprints.build(table, folder, _progress("volume"))
    fingerprints.write(args.out, found)
    print(f"{len(found.volumes)} fingerprints")


@command(
    "overlap", "find subjects of a corpus that are also scored, by name and by image",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"),
    arg("--cohorts", nargs="*", default=[], metavar="TASK:COHORT=JSON", help="subjects of every cohort that is scored"),
    arg("--indexes", nargs="+", required=True, metavar="NAME=TSV", help="indexes of all data sets of corpus and cohorts"),
    arg("--fingerprints", nargs="+", required=True, metavar="NAME=NPZ", help="fingerprints of the corpus's data sets"),
    arg("--cohort-fingerprints", nargs="*", default=[], metavar="TASK:COHORT=NPZ", help="those of each cohort's data set"),
    arg("--near", type=float, required=True, metavar="R", help="correlation from which two volumes are one image (0..1)"),
    arg("--protocol", choices=["strict", "amaes"], required=True, help="strict: a shared subject is an error"),
    OUT,
    arg("--pairs", type=Path, required=True, metavar="FILE", help="file to write: who of the cohorts is who of the corpus"),
)  # fmt: skip
def overlap(args: argparse.Namespace) -> None:
    """Writes a row per task, cohort and data set with the subjects that are shared, and a row per pair of subjects."""
    from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
    from brainpretrain.files import read_json, read_tsv, write_tsv

    corpus, indexes = read_tsv(args.corpus), {name: read_tsv(path) for name, path in _named(args.indexes).items()}
    stored, files, cohorts = _named(args.fingerprints), _named(args.cohort_fingerprints), []
    for name, path in _named(args.cohorts).items():
        (task, cohort), whole = name.split(":"), read_json(path)
        subjects = cohort_subjects(cohort, whole)
        rows = indexes[whole["dataset"]]
        copies = _copies(rows.loc[rows["subject"].isin(subjects), "volume"], files[name], corpus, stored, args.near)
        cohorts.append(Cohort(task, cohort, whole["dataset"], subjects, copies))
    shared, pairs = shared_subjects(corpus, cohorts, indexes)
    check_protocol(shared, pairs, args.protocol)
    write_tsv(args.out, shared)
    write_tsv(args.pairs, pairs)
    for row in shared.to_dict("records"):
        print("{task}, {cohort}: {shared} of {evaluated} subjects ({by_name} by name, {by_content} by image)".format(**row))


def _copies(volumes: Any, path: str, corpus: Any, stored: dict[str, str], near: float) -> Any:
    """Pairs of `volumes`, whose fingerprints are in `path`, and volumes of the corpus; one data set of it in memory at a time."""
    import pandas as pd

    from brainpretrain.cohorts import fingerprints

    cohort, parts = fingerprints.read(path).of(volumes), []
    for dataset, file in stored.items():
        kept = fingerprints.read(file).of(corpus.loc[corpus["dataset"] == dataset, "volume"])
        parts.append(fingerprints.copies(cohort, kept, near).assign(corpus_dataset=dataset))
    return pd.concat(parts, ignore_index=True)


def _named(pairs: list[str]) -> dict[str, str]:
    """NAME=FILE arguments as a mapping."""
    return dict(pair.split("=", 1) for pair in pairs)


@command(
    "page-overlap", "show who of each corpus is scored too",
    arg("--audits", nargs="*", default=[], metavar="CORPUS=TSV", help="overlap.tsv of each corpus, with pairs.tsv beside it"),
    arg("--protocols", nargs="*", default=[], metavar="CORPUS=PROTOCOL", help="the protocol of each corpus"),
    arg("--splits", nargs="*", default=[], metavar="TASK=JSON", help="what `split` wrote of each task"),
    arg("--near", type=float, required=True, metavar="R", help="as given to `overlap`"), OUT,
)  # fmt: skip
def page_overlap(args: argparse.Namespace) -> None:
    """An HTML page: per corpus, task and cohort the subjects that are shared, and the pairs."""
    from brainpretrain.files import read_json, read_tsv
    from brainpretrain.report.pages import audits as audit_pages
    from brainpretrain.report.pages import html as pages

    protocols = _named(args.protocols)
    audits = {
        corpus: (protocols[corpus], read_tsv(path), read_tsv(Path(path).with_name("pairs.tsv")))
        for corpus, path in _named(args.audits).items()
    }
    splits = {task: read_json(path) for task, path in _named(args.splits).items()}
    pages.write(args.out, audit_pages.overlap_page(audits, args.near, splits))


@command(
    "composition", "count what a corpus is made of, beside the published counts",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"),
    arg("--name", required=True, metavar="CORPUS", help="its name"),
    NAMED_VOLUMES,
    DATA, arg("--modules", type=_mapping, required=True, metavar="JSON", help="data set -> module, and options of own data"),
    arg("--out", type=Path, nargs="+", required=True, metavar="FILE", help="files to write; the suffix says in which form"),
)  # fmt: skip
def composition(args: argparse.Namespace) -> None:
    """Subjects, sessions, volumes, sequences, spacing, intensity and rejected volumes of each source: Table 1 of AMAES."""
    from brainpretrain import datasets
    from brainpretrain.files import read_tsv
    from brainpretrain.report import printers
    from brainpretrain.report.composition import composition_grid, count_sources

    modules = {name: datasets.describe(known["module"], known["options"]) for name, known in args.modules.items()}
    found = count_sources(read_tsv(args.corpus), _tables(args.volumes, args.data), modules)
    grid = composition_grid(found, args.name)
    for path in args.out:
        printers.write(path, found, grid)
    print(printers.text(grid))


@command(
    "licences", "list the licences that a study works under, and what they forbid",
    arg("--uses", type=_mapping, required=True, metavar="JSON", help="data set -> module, options, and what it is used for"),
    arg("--releases", type=_mapping, default={}, metavar="JSON", help="release of weights -> licence, page, citation"),
    OUT, arg("--page", type=Path, required=True, metavar="FILE", help="HTML page to write"),
)  # fmt: skip
def licences(args: argparse.Namespace) -> None:
    """Writes a row per data set and release. Needs no data."""
    from brainpretrain import datasets
    from brainpretrain.files import write_tsv
    from brainpretrain.report.licences import licence_table
    from brainpretrain.report.pages import audits as audit_pages
    from brainpretrain.report.pages import html as pages

    used = [(name, datasets.describe(use["module"], use["options"]), use["for"]) for name, use in args.uses.items()]
    found = licence_table(used, [{"name": name, **release} for name, release in args.releases.items()])
    write_tsv(args.out, found)
    pages.write(args.page, audit_pages.licences_page(found))


def _tables(pairs: list[str], data: Path) -> dict[str, Any]:
    """Tables of stored volumes by data set, with `file` made relative to the data folder."""
    import pandas as pd

    found: dict[str, list] = {}
    for pair in pairs:
        name, path = pair.split("=", 1)
        table, folder = _stored(Path(path))
        table["file"] = [str((folder / file).relative_to(data)) if file else "" for file in table["file"]]
        found.setdefault(name, []).append(table)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


@command(
    "pretrain", "train an encoder without labels",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"),
    DATA, CONFIG, *MACHINE,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors, log.csv, run.json ..."),
)  # fmt: skip
def pretrain(args: argparse.Namespace) -> None:
    """Masked reconstruction, or another pretext task. Killed or out of time, the same command continues.

    --config holds name, seed, recipe, backbone, policy and preprocess; an earlier run's config.yaml fits.
    """
    from brainpretrain.training import run as training

    training.pretrain(args.corpus, args.data, args.config, _run(args))


@command(
    "finetune", "train a segmentation network on labelled cases",
    VOLUMES, SPLIT,
    arg("--init", type=Path, metavar="FILE", help="encoder.safetensors of a pretraining; without it, from scratch"),
    CONFIG, *MACHINE,
    arg("--log-every", type=int, default=100, metavar="STEPS", help="steps between two rows of log.csv"),
    arg("--inference", type=_mapping, metavar="JSON", help="sliding window that model.json recommends; changes no training"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for model.safetensors, transfer.tsv, run.json ..."),
)  # fmt: skip
def finetune(args: argparse.Namespace) -> None:
    """Both arms of a comparison are this command, one with --init and one without.

    --config holds name, seed, fold, n_train, task, recipe, backbone, policy and preprocess.
    """
    from brainpretrain.training import run as training

    table, folder = _stored(args.volumes)
    training.finetune(table, folder, args.split, args.init, args.config, _run(args, args.log_every, args.inference))


def _entry(section: str) -> Callable[[str], dict[str, Any]]:
    """Type of an argument that is an entry of a config section: its name in `config/`, or the entry as JSON or @file."""

    def read(text: str) -> dict[str, Any]:
        if text.startswith(("{", "@")):
            return _mapping(text)
        from brainpretrain import config

        return config.load().get(section, text, "command line").model_dump(mode="json")

    return read


@command(
    "repair", "make damaged or missing stored volumes anew, and nothing else",
    arg("folder", type=Path, metavar="FOLDER", help="a preprocessed data set: results/data/<data set>/<recipe>"),
    arg("--root", type=Path, metavar="DIR", help="folder of the raw files (where `fetch` found them)"),
    arg("--recipe", type=_entry("preprocess"), metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml), if recipe.json is lost"),
)  # fmt: skip
def repair(args: argparse.Namespace) -> None:
    """Compares every stored volume with its checksum. What is not whole is made anew from its raw file, with the same bytes, so
    that no training has to run again. A table of a shard that is missing or cut is put together again from the records, and a
    damaged volumes.tsv from these tables.

    Exit code 2 if something could not be made anew; the rest is.
    """
    from brainpretrain.preprocess import repair as module

    outcome = module.repair(args.folder, args.root, args.recipe, _progress("shard"))
    for line in outcome.repaired:
        print(line)
    print(
        f"{outcome.volumes} stored volumes looked at: {len(outcome.repaired) or 'nothing'} repaired, {len(outcome.failed)} left"
    )
    if outcome.failed:
        raise UserError(
            f"{len(outcome.failed)} could not be repaired:\n    " + "\n    ".join(outcome.failed),
            where=args.folder,
            fix="put the raw files back, or say where they are (--root), and repair again; what was repaired stays",
        )


ENCODER = arg("--encoder", type=Path, required=True, metavar="DIR", help="folder of encoder.safetensors and encoder.json")


@command(
    "import", "take over an encoder that was trained elsewhere",
    arg("file", type=Path, metavar="FILE", help="safetensors, or .pth, .pt, .ckpt with nothing but tensors and plain values"),
    arg("--backbone", type=_entry("backbones"), metavar="NAME", help="entry of config/backbones.yaml (or JSON, or @file.yaml)"),
    arg("--preprocess", type=_entry("preprocess"), metavar="NAME",
        help="how its volumes were prepared: entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--release", type=_mapping, metavar="JSON", help="what is known of the file; without it, found in config/ by its name"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors|json, import.tsv, card.md"),
)  # fmt: skip
def import_weights(args: argparse.Namespace) -> None:
    """Reads tensors only, and takes every tensor of the encoder or none. Nothing in the file is run.

    Known are this project's own files, the AMAES checkpoints and MONAI's SwinUNETR release. Wrappers such as `model.` and
    `_orig_mod.` are dropped from names; decoders are left and counted.
    """
    from brainpretrain.weights import importing

    release = args.release or _release_of(args.file.name)
    facts = importing.import_encoder(args.file, args.out, args.backbone, args.preprocess, release)
    left = facts["source"]["left"]
    known = f", known as {release['release']} by its name" if release and not args.release else ""
    print(f"imported an encoder of {facts['encoder_parameters']:,} parameters, all of its tensors, from {args.file}{known}")
    for name, part in left.items():
        print(f"left in the file: {name}, {part['tensors']} tensors of {part['values']:,} values")
    if facts["preprocess"] is None:
        print("not known how its volumes were prepared: give --preprocess, or fine-tuning will refuse it")


def _release_of(file: str) -> dict[str, Any] | None:
    """The release in `config/` that has a file of this name, if there is a config here."""
    if not Path("config/weights.yaml").exists():
        return None
    from brainpretrain import config

    entries = config.load()
    named = [
        (name, backbone)
        for name, release in entries.weights.items()
        for backbone, found in release.files.items()
        if found.file == file
    ]
    return entries.release(*named[0]) if named else None


@command(
    "features", "compute the feature maps of a volume",
    arg("input", type=Path, metavar="FILE", help="NIfTI, or an array (x y z), (c x y z) or (b c x y z) as .npy"),
    ENCODER,
    arg("--raw", action="store_true", help="take the values as they are; a NIfTI is else prepared as the encoder's corpus was"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    OUT,
)  # fmt: skip
def features(args: argparse.Namespace) -> None:
    """Writes an .npz with one array (b c x y z) per level, level0 the finest.

    Sides that are no multiple of the encoder's divisor are padded with 0 at the far side; a side of n voxels gives
    ceil(n / stride). The whole volume goes through the network in one piece.
    """
    import numpy as np
    import torch

    from brainpretrain.evaluation import inference
    from brainpretrain.files import atomic
    from brainpretrain.weights import store as weights

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds the inputs of convolutions to 10 bits
    encoder, facts = weights.encoder(args.encoder)
    image = inference.read_image(args.input, facts, args.raw)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    maps = inference.features(encoder.to(device), image.to(device))
    with atomic(args.out) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{f"level{level}": found.cpu().numpy() for level, found in enumerate(maps)})
    print("  ".join(f"level{level} {'x'.join(map(str, found.shape))}" for level, found in enumerate(maps)))


@command(
    "export", "write an encoder for another program, or its model card",
    ENCODER,
    arg("--format", choices=["nnunet", "card"], required=True, help="a checkpoint for nnU-Net, or Markdown"),
    arg("--in-channels", type=int, metavar="N", help="input channels that nnU-Net will have; a stem of one channel is repeated"),
    arg("--seed", type=int, default=0, help="draws the decoder that nnU-Net wants in the file"),
    OUT,
)  # fmt: skip
def export(args: argparse.Namespace) -> None:
    """nnunet: FILE is for `nnUNetv2_train -pretrained_weights`; beside it FILE.json, to merge into nnU-Net's plans, and FILE.md.

    The model card says what encoder.json and run.json say, and calls the rest unknown.
    """
    from brainpretrain.files import atomic, read_json
    from brainpretrain.weights import cards

    path, run = args.out, args.encoder / "run.json"
    if args.format == "nnunet":
        from brainpretrain.weights import exporting

        exporting.export_nnunet(args.encoder, args.out, args.in_channels, args.seed)
        path = args.out.with_suffix(".md")
        print(f"{args.out}: encoder and a fresh decoder; {args.out.with_suffix('.json')}: the configuration for nnU-Net's plans")
    with atomic(path) as temporary:
        text = cards.card(read_json(args.encoder / "encoder.json"), read_json(run) if run.exists() else None)
        temporary.write_text(text, encoding="utf-8")


def _run(args: argparse.Namespace, log_every: int = 0, inference: dict[str, Any] | None = None) -> Any:
    from brainpretrain.training import run as training

    machine = (args.devices, args.nodes, args.threads, args.workers, args.save_every, args.tensorboard, args.max_idle_attempts)
    return training.Run(args.out, args.work, *machine, log_every, args.execution, inference, args.max_nonfinite_steps)


def _stored(path: Path) -> tuple[Any, Path]:
    """The table of stored volumes, and the folder that it is relative to.

    Raises:
        UserError: it is missing or damaged; it says how to repair it.
    """
    from brainpretrain.files import is_cut, read_tsv

    try:
        table = read_tsv(path)
        problem = "the table is cut" if is_cut(path) else ""
    except UserError as error:
        problem = error.problem
    if problem:
        raise UserError(problem, where=path, fix=f"brainpretrain repair {shlex.quote(str(path.parent))}")
    return table, path.parent


def _joined(paths: list[Path]) -> Any:
    """Tables of the same columns, one below the other."""
    import pandas as pd

    from brainpretrain.files import read_tsv

    return pd.concat([read_tsv(path) for path in paths], ignore_index=True)


COHORT = (
    VOLUMES,
    ROOT,
    SPLIT,
    TASK,
    arg("--n-train", required=True, help="labelled cases the model saw (a number, or 'all')"),
    arg("--cohort", required=True, choices=["val", "test", "ood"], help="pool less training cases, fixed test set, or ood"),
    arg("--fixed", type=Path, metavar="JSON", help="what `split` (for test) or `ood` (for ood) wrote"),
)


def _cohort(args: argparse.Namespace) -> tuple[list, Path]:
    """Cases of the cohort, and the folder of the raw data set."""
    from brainpretrain.cohorts import splits
    from brainpretrain.cohorts.cases import labelled_cases
    from brainpretrain.files import read_json

    table, folder = _stored(args.volumes)
    by_subject = labelled_cases(table, folder, args.task["sequences"])
    fold, fixed = read_json(args.split), read_json(args.fixed) if args.fixed else {}
    wanted = fold["order"] if args.cohort == "val" else fixed.get(args.cohort, [])
    if unusable := sorted(set(wanted) - set(by_subject)):
        print(f"{len(unusable)} of {len(wanted)} subjects have no usable case (see the rejected volumes): {' '.join(unusable)}")
    subjects = splits.cohort_subjects(fold, set(by_subject), args.n_train, args.cohort, fixed)
    return [case for subject in subjects for case in by_subject[subject]], args.root


MODEL_FILE = arg("--model", type=Path, required=True, metavar="FILE", help="model.safetensors of a fine-tuning")


def _mirror(text: str) -> list[str]:
    """Axes given as letters, such as xyz."""
    if text != "none" and (not text or set(text) - set("xyz") or len(set(text)) < len(text)):
        raise argparse.ArgumentTypeError("letters out of xyz, each once, or none")
    return [] if text == "none" else list(text)


@command(
    "predict", "segment any NIfTI files with a fine-tuned model",
    arg("images", nargs="+", metavar="IMAGE",
        help="a case: one file, or for a model of several sequences its files, joined by commas in the model's order"),
    arg("--model", type=Path, required=True, metavar="DIR", help="folder of model.safetensors and model.json (or that file)"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <image>_dseg.nii.gz"),
    arg("--bids", action="store_true", help="write a BIDS derivative dataset; the images need BIDS names"),
    arg("--force", action="store_true", help="replace segmentations that were made in another way"),
    arg("--overlap", type=float, metavar="SHARE", help="share of a patch that its neighbour sees too (as model.json says)"),
    arg("--weights", metavar="KIND", help="constant, or gaussian: a patch counts less far from its centre (as model.json says)"),
    arg("--mirror", type=_mirror, metavar="AXES", help="mean over flips along these, such as xyz, or none (as model.json says)"),
    arg("--batch", type=int, metavar="N", help="patches at a time: speed and memory (as model.json says)"),
    arg("--threads", type=int, metavar="N", help="CPU threads (all)"),
    arg("--device", metavar="NAME", help="cpu, cuda or cuda:<n> (a GPU, if there is one)"),
)  # fmt: skip
def predict(args: argparse.Namespace) -> None:
    """Images are brought to what model.json says (orientation, spacing, intensities, crop) or refused by name; labels are
    written on the grid of the image, with its header, beside a json that says how they were made.

    One bad image does not cost the others: failures are listed at the end, with exit code 2. What was made from the same
    images by the same model in the same way is kept, so the same command continues where it ended.
    """
    import torch

    from brainpretrain.evaluation import images as prediction

    if args.threads:
        torch.set_num_threads(args.threads)
    cases = [[Path(word)] if Path(word).exists() else [Path(part) for part in word.split(",")] for word in args.images]
    window = {key: getattr(args, key) for key in ("overlap", "weights", "batch", "mirror")}
    model = args.model if args.model.is_file() else args.model / "model"
    prediction.predict_images(
        model, cases, args.out, window,
        as_bids=args.bids, force=args.force, device=args.device, tell=lambda line: print(line, flush=True),
    )  # fmt: skip


@command(
    "predict-cohort", "segment a cohort, in native space",
    MODEL_FILE,
    *COHORT,
    arg("--inference", type=_mapping, required=True, metavar="JSON", help="sliding window: overlap, weights, batch, mirror"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <case>.nii.gz"),
)  # fmt: skip
def predict_cohort(args: argparse.Namespace) -> None:
    """Sliding window on the stored volumes, logits resampled to the native grid, labels in the original header."""
    import torch

    from brainpretrain import config
    from brainpretrain.evaluation import images as prediction

    torch.set_num_threads(args.threads)
    cases, raw = _cohort(args)
    window = config.inference(args.inference, "--inference")
    prediction.predict(args.model, cases, raw, window, args.out, _progress("case"))


@command(
    "bids", "write the predictions of a cohort as a BIDS derivative dataset",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="folder that `predict-cohort` wrote"),
    MODEL_FILE,
    *COHORT,
    DATASET,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset"),
)  # fmt: skip
def bids(args: argparse.Namespace) -> None:
    """sub-<label>/[ses-<label>/]anat/sub-<label>_..._desc-pred_dseg.nii.gz, each with its json; a label is the subject's name
    without what BIDS does not allow.
    """
    from brainpretrain import datasets
    from brainpretrain.evaluation import images as prediction

    cases, raw = _cohort(args)
    source = {"URL": datasets.load(args.dataset).page}
    prediction.as_derivatives(cases, args.predictions, args.model, raw, source, args.out)
    print(f"{len(cases)} segmentations in {args.out}")


@command(
    "evaluate", "score the predictions of a cohort, in native space",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="folder that `predict` wrote"),
    *COHORT,
    arg("--run", type=_mapping, required=True, metavar="JSON", help="columns that name the run: study, task, backbone, init ..."),
    OUT,
)  # fmt: skip
def evaluate(args: argparse.Namespace) -> None:
    """Writes scores.tsv: per case and label Dice, NSD, HD95, volumes, lesions and counts, with a status for empty masks.

    A prediction that is missing, extra, damaged, on another grid, or of unknown values ends it, and nothing is written.
    """
    from brainpretrain.evaluation import scores as evaluation
    from brainpretrain.files import write_tsv

    cases, raw = _cohort(args)
    scores = evaluation.evaluate(cases, raw, args.predictions, args.task, args.run)
    write_tsv(args.out, scores)
    print("\n".join(evaluation.summary(scores)))


@command("scores", "join score tables", arg("tables", type=Path, nargs="+", metavar="TSV"), OUT)
def scores(args: argparse.Namespace) -> None:
    """Writes one table of all rows, in the order of the files given."""
    from brainpretrain.files import write_tsv

    write_tsv(args.out, _joined(args.tables))


SCORES = arg("--scores", type=Path, nargs="+", required=True, metavar="TSV", help="tables that `evaluate` wrote")
SPEC = arg(
    "--spec", type=_mapping, required=True, metavar="JSON", help="table: title, folds, columns, rows (JSON, or @file.yaml)"
)


OVERLAPS = arg(
    "--overlaps", nargs="*", default=[], metavar="CORPUS=TSV", help="audits (overlap.tsv) of the corpora behind the table"
)
TABLES_OUT = arg("--out", type=Path, required=True, metavar="DIR", help="folder to write into")


def _audits(pairs: list[str]) -> dict[str, Any]:
    from brainpretrain.files import read_tsv

    return {corpus: read_tsv(path) for corpus, path in (pair.split("=", 1) for pair in pairs)}


@command("table", "make a table of results", SCORES, SPEC, OVERLAPS, TABLES_OUT)
def table(args: argparse.Namespace) -> None:
    """Writes <name>, <name>_labels, <name>_metrics and <name>_ranks, each as .tsv|md|tex|html|txt, and a plot of the ranks.

    A cell whose runs are missing says so. docs/statistics.md says how each number comes about.
    """
    from brainpretrain.report import layouts as grids
    from brainpretrain.report import printers

    print(printers.text(grids.write_table(args.out, _joined(args.scores), args.spec, _audits(args.overlaps))))


@command(
    "tables", "make the tables of a study again, from its scores alone",
    arg("--study", required=True, metavar="NAME", help="its name in config/studies/, or a path"),
    SCORES,
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    OVERLAPS, TABLES_OUT,
)  # fmt: skip
def tables(args: argparse.Namespace) -> None:
    """Writes what the workflow writes into results/<study>/tables, byte for byte, in seconds.

    Audits of transductive corpora are taken from --overlaps, else from the folder corpora/ beside the scores.
    """
    from brainpretrain import config
    from brainpretrain.plan import tables as plan
    from brainpretrain.report import layouts as grids

    made = plan.make(config.load(args.config, {"study": args.study}))
    beside = [f"{path.parent.name}={path}" for path in sorted(args.scores[0].parent.glob("corpora/*/overlap.tsv"))]
    lacking = {name: None for name in made.corpora if made.config.corpora[name].protocol == "amaes"}
    scores, overlaps = _joined(args.scores), lacking | _audits(args.overlaps or beside)
    for name, spec in made.tables.items():
        grids.write_table(args.out, scores, spec, overlaps)
        print(f"{args.out / name}.html")


@command(
    "table-sites", "make a table of an out-of-distribution cohort, apart for sites that training saw and did not see",
    SCORES, SPEC, OVERLAPS, INDEX,
    arg("--task-index", type=Path, required=True, metavar="TSV", help="index of the data set that the task trains on"),
    arg("--subjects", type=Path, required=True, metavar="JSON", help="what `split` wrote of the task"),
    arg("--out", type=Path, nargs="+", required=True, metavar="FILE", help="files to write; the suffix says in which form"),
)  # fmt: skip
def table_sites(args: argparse.Namespace) -> None:
    """--index is that of the cohort's data set. The spec has three columns: the cohort, <cohort>_seen, <cohort>_unseen."""
    from brainpretrain.files import read_json, read_tsv
    from brainpretrain.report import layouts as grids
    from brainpretrain.report import printers
    from brainpretrain.report import results as tables
    from brainpretrain.report.sites import by_site, overlap_by_site

    pool, trained = set(read_json(args.subjects)["pool"]), read_tsv(args.task_index)
    sites = set(trained.loc[trained["subject"].isin(pool), "site"])
    overlaps = {corpus: overlap_by_site(audit) for corpus, audit in _audits(args.overlaps).items()}
    cells = tables.build(by_site(_joined(args.scores), read_tsv(args.index), sites), args.spec, overlaps)
    grid = grids.results_grid(cells, args.spec)
    for path in args.out:
        printers.write(path, cells, grid)
    print(printers.text(grid))


@command("plot-cases", "draw every case from scratch to pretrained", SCORES, SPEC, OUT)
def plot_cases(args: argparse.Namespace) -> None:
    """A panel per column of the table, a pair of points per case."""
    from brainpretrain.report.figures import canvas as plots

    plots.paired_cases(_joined(args.scores), args.spec, args.out)


RUNS = arg("--runs", type=Path, nargs="+", required=True, metavar="JSON", help="run.json of the trainings, in a study's folders")
TABLE_OUT = arg("--out", type=Path, required=True, metavar="DIR", help="folder")


@command("plot-costs", "draw what each arm of a table costs and what it brings", SCORES, RUNS, SPEC, TABLE_OUT)
def plot_costs(args: argparse.Namespace) -> None:
    """Writes <name>_costs.tsv|svg|html: hours of training against the score, area = peak memory (AMAES Figure 1)."""
    from brainpretrain.files import read_json, write_tsv
    from brainpretrain.report import costs
    from brainpretrain.report import results as tables
    from brainpretrain.report.figures import canvas as plots
    from brainpretrain.report.pages import html as pages

    runs = costs.by_place({str(path): read_json(path) for path in args.runs})
    arms, stem = costs.arms(_joined(args.scores), args.spec, runs), args.out / f"{args.spec['name']}_costs"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), arms)
    plots.costs(arms, args.spec, figure)
    scale = tables.metric_of(args.spec).scale
    pages.write(stem.with_suffix(".html"), pages.costs_page(arms, args.spec, figure.read_text(encoding="utf-8"), scale))


@command(
    "plot-budgets", "draw the score over the number of labels",
    SCORES, RUNS, SPEC,
    arg("--bootstrap", type=_mapping, required=True, metavar="JSON", help="resamples, confidence, seed (JSON, or @file.yaml)"),
    TABLE_OUT,
)  # fmt: skip
def plot_budgets(args: argparse.Namespace) -> None:
    """Writes <name>_budgets.tsv|svg|html and <name>_matched.tsv: the budget at which an arm matches full supervision."""
    from brainpretrain.files import read_json, write_tsv
    from brainpretrain.report import budgets, costs
    from brainpretrain.report import results as tables
    from brainpretrain.report.figures import canvas as plots
    from brainpretrain.report.pages import html as pages

    scores = _joined(args.scores)
    runs = costs.by_place({str(path): read_json(path) for path in args.runs})
    counted = budgets.counted_subjects([run for place, run in runs.items() if place.startswith("finetune/")])
    points = budgets.curves(scores, args.spec, counted)
    matches = budgets.matched(scores, args.spec, points, args.bootstrap)
    stem = args.out / f"{args.spec['name']}_budgets"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), points)
    write_tsv(args.out / f"{args.spec['name']}_matched.tsv", matches)
    plots.label_budgets(points, matches, args.spec, figure)
    scale = tables.metric_of(args.spec).scale
    svg = figure.read_text(encoding="utf-8")
    page = pages.budgets_page(points, matches, args.spec, svg, scale, args.bootstrap["resamples"])
    pages.write(stem.with_suffix(".html"), page)


@command(
    "plot-loss", "draw the curves of a training",
    arg("logs", type=Path, nargs="+", metavar="CSV", help="log.csv; of several (the folds of an arm) the mean is drawn"),
    arg("--title", default="", help="above the figure"), OUT,
)  # fmt: skip
def plot_loss(args: argparse.Namespace) -> None:
    """Loss with its trivial baselines, learning rate, patches per second, waiting for data, memory.

    Where schedule.tsv lies beside the first log, the planned learning rate stands behind the logged one, with what was frozen.
    """
    import pandas as pd

    from brainpretrain.files import read_tsv
    from brainpretrain.report.figures import canvas as plots

    log = pd.concat([plots.read_log(path) for path in args.logs]).groupby("step", as_index=False).mean()
    planned = args.logs[0].with_name("schedule.tsv")
    schedule = read_tsv(planned, numbers=["step", "lr", "phase"]) if planned.exists() else None
    title = args.title + (f", mean of {len(args.logs)} folds" if len(args.logs) > 1 else "")
    plots.loss_curves(log, args.out, title, schedule)


@command(
    "plot-schedule", "draw the learning rates of recipes, before anything is trained",
    arg("recipes", nargs="*", metavar="RECIPE", help="entries of config/finetune.yaml (all, if nothing is named)"),
    arg("--pretexts", nargs="+", default=[], metavar="NAME", help="entries of config/pretext.yaml, drawn too"),
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    arg("--study", help="a study whose recipes are known too"), OUT,
)  # fmt: skip
def plot_schedule(args: argparse.Namespace) -> None:
    """A panel per recipe: warm-ups, decays, and what is frozen meanwhile."""
    from brainpretrain import config
    from brainpretrain.report.figures import learning_rates as curves

    loaded = config.load(args.config, {"study": args.study} if args.study else {})
    wanted = args.recipes or ([] if args.pretexts else list(loaded.finetune))
    entries = [(name, loaded.get("finetune", name, "command line")) for name in wanted]
    entries += [(f"pretext {name}", loaded.get("pretexts", name, "command line")) for name in args.pretexts]
    curves.recipes({name: [phase.model_dump() for phase in entry.phases] for name, entry in entries}, args.out)


@command(
    "plot-reconstructions", "draw what a pretrained network makes of masked patches",
    arg("reconstruction", type=Path, metavar="NPZ", help="reconstruction.npz of a pretraining"), OUT,
)  # fmt: skip
def plot_reconstructions(args: argparse.Namespace) -> None:
    """Input, masked input, output, target and error on middle axial slices."""
    from brainpretrain.report.figures import canvas as plots

    plots.reconstructions(args.reconstruction, args.out)


@command(
    "plot-composition", "draw what a corpus is made of",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"), NAMED_VOLUMES, DATA, OUT,
)  # fmt: skip
def plot_composition(args: argparse.Namespace) -> None:
    """Volumes by source and sequence, spacing, intensity, rejected."""
    from brainpretrain.files import read_tsv
    from brainpretrain.report.figures import canvas as plots

    plots.composition(read_tsv(args.corpus), _tables(args.volumes, args.data), args.out)


@command("page-rejected", "list the volumes that preprocessing rejected", NAMED_VOLUMES, DATA, OUT)
def page_rejected(args: argparse.Namespace) -> None:
    """An HTML page with the reason for each, and what was accepted."""
    from brainpretrain.report.pages import html as pages

    pages.write(args.out, pages.rejected_page(_tables(args.volumes, args.data)))


@command("page-run", "show a run.json as a page", arg("run", type=Path, metavar="JSON", help="run.json of a training"), OUT)
def page_run(args: argparse.Namespace) -> None:
    """What was trained, on what, with which code and hardware, how long, and the whole config."""
    from brainpretrain.files import read_json
    from brainpretrain.report.pages import html as pages

    pages.write(args.out, pages.run_card(read_json(args.run)))


@command(
    "plot-overlays", "draw the worst, the median and the best case",
    arg("--evaluations", type=Path, nargs="+", required=True, metavar="DIR", help="a fold each: scores.tsv and predictions/"),
    VOLUMES, ROOT, TASK, OUT,
)  # fmt: skip
def plot_overlays(args: argparse.Namespace) -> None:
    """Outlines of reference and prediction on the slice with most of the reference."""
    from brainpretrain.evaluation import scores as evaluation
    from brainpretrain.report.figures import canvas as plots

    table, folder = _stored(args.volumes)
    overlays = evaluation.overlays(args.evaluations, table, folder, args.root, args.task)
    plots.overlays(overlays, args.out)


@command(
    "overlay-cases", "store the worst, the median and the best case for the viewer",
    arg("--evaluations", type=Path, nargs="+", required=True, metavar="DIR", help="a fold each: scores.tsv and predictions/"),
    VOLUMES, ROOT, TASK,
    arg("--title", required=True, help="what the page calls the arm"), OUT,
)  # fmt: skip
def overlay_cases(args: argparse.Namespace) -> None:
    """Image, reference and prediction of the cases as a script, which a page may load without a server."""
    from brainpretrain.evaluation import scores as evaluation
    from brainpretrain.report import viewer

    table, folder = _stored(args.volumes)
    cases = evaluation.overlays(args.evaluations, table, folder, args.root, args.task)
    viewer.write_cases(args.out, args.title, cases, list(args.task["labels"]))


@command(
    "page-overlays", "make the page that shows stored cases in 3-D",
    arg("cases", type=Path, nargs="+", metavar="JS", help="what `overlay-cases` wrote, below the folder of the page"),
    arg("--bundle", type=Path, required=True, metavar="JS", help="niivue.umd.js of NiiVue"),
    arg("--title", required=True, help="above the page"), OUT,
)  # fmt: skip
def page_overlays(args: argparse.Namespace) -> None:
    """A page that opens offline and from a folder; the bundle is copied beside it."""
    from brainpretrain.report import viewer

    viewer.write_page(args.out, args.title, args.cases, args.bundle)


@command(
    "claim", "run a command on GPUs that nothing else runs on",
    arg("--gpus", type=int, required=True, metavar="N", help="how many"),
    arg("line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments"),
)  # fmt: skip
def claim(args: argparse.Namespace) -> None:
    """Waits until N GPUs are free, and becomes the command, with CUDA_VISIBLE_DEVICES set to them.

    Free means: no other command that was started this way runs on it. Without a GPU the command runs on the CPU. The profiles
    `local` and `workstation` start trainings and predictions this way; on Slurm it is not needed.
    """
    from brainpretrain.training import gpus

    line = args.line[1:] if args.line[:1] == ["--"] else args.line
    if not line:
        raise UserError("there is no command to run", fix="write it behind --")
    taken = gpus.claim(args.gpus, os.environ)
    print(f"GPU {', '.join(taken)}" if taken else "no GPU to be seen: on the CPU", flush=True)
    gpus.run_on(taken, line, os.environ)


@command(
    "params", "count parameters and operations of the networks, beside those of the published ones",
    arg("backbones", nargs="*", metavar="BACKBONE", help="entries of the catalogue or the study (all, if none is named)"),
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    arg("--study", help="a study whose backbones are counted too"),
    arg("--patch-size", type=int, nargs=3, metavar=("X", "Y", "Z"), help="voxels (that of the first pretext, if not given)"),
    arg("--json", action="store_true", help="rows as JSON"),
)  # fmt: skip
def params(args: argparse.Namespace) -> None:
    """Encoder alone, network of a pretext, network for so many classes; GFLOP of one patch forward, a multiply-add is two.

    On one input channel. `expected` is what the entry in backbones.yaml says of the published network.
    """
    from brainpretrain import config
    from brainpretrain.training import counts

    loaded = config.load(args.config, {"study": args.study} if args.study else {})
    patch_size = args.patch_size or next(iter(loaded.pretexts.values())).patch_size
    rows = [row for name in args.backbones or loaded.backbones for row in counts.rows(loaded, name, patch_size)]
    print(json.dumps(rows, indent=1) if args.json else counts.text(rows, patch_size))


@command(
    "status", "show what became of every training",
    arg("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of the results"),
    arg("--study", metavar="NAME", help="this study alone"),
    arg("--json", action="store_true", help="print all of it as JSON, with the trainings that are not begun"),
)  # fmt: skip
def status(args: argparse.Namespace) -> None:
    """Reads the run folders: state, step, patches per second, time to the end, trouble, and what was lost.

    seen: since the last sign of life. lost: steps that had to be, or will have to be, done again. Run in the root of the
    repository, it counts what is not begun too.
    """
    from rich.console import Console

    from brainpretrain.report import status as reading

    trainings = reading.collect(args.results, args.study)
    if args.json:
        print(json.dumps([vars(training) for training in trainings], indent=2))
    else:
        width = None if sys.stdout.isatty() else 200  # a pipe has no width
        Console(width=width).print(reading.rendered(trainings))


@command(
    "plot-augmentation", "draw what each transform of an augmentation policy does",
    arg("volume", type=Path, metavar="NIFTI", help="volume to show"),
    arg("--policy", type=_entry("augmentations"), required=True, metavar="NAME",
        help="entry of config/augmentations.yaml (or JSON, or @file.yaml)"),
    arg("--preprocess", type=_entry("preprocess"), required=True, metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--patch-size", type=int, nargs=3, required=True, metavar="N", help="voxels"),
    arg("--seed", type=int, default=0, help="of the sample"),
    arg("--title", default="", help="above the figure"),
    arg("--credit", default="", help="below the figure: whose image it is, and its licence"),
    OUT,
)  # fmt: skip
def plot_augmentation(args: argparse.Namespace) -> None:
    """Each transform by itself, sure to fire: the middle axial slice before, after, and the difference."""
    from brainpretrain.augment.config import PolicyConfig
    from brainpretrain.augment.pictures import pictures
    from brainpretrain.preprocess import volumes
    from brainpretrain.report.figures import canvas as plots

    recipe = args.preprocess
    limits = volumes.Limits(recipe["max_voxels"], tuple(recipe["spacing_range_mm"]))
    image = volumes.preprocess(volumes.read_volume(args.volume, limits=limits), None, recipe)[0]
    found = pictures(PolicyConfig.model_validate(args.policy), image, args.patch_size, args.seed)
    plots.augmentations(found, args.out, args.title, args.credit)


@command("schema", "write the JSON schema of the config, for editors", OUT)
def schema(args: argparse.Namespace) -> None:
    """Editors that know YAML schemas complete and check the files under config/ with it."""
    from brainpretrain import config
    from brainpretrain.files import write_json

    write_json(args.out, config.schema())


def _progress(unit: str) -> Callable[[int, int], None]:
    """A counter line on a terminal, a line per tenth elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{unit} {done}/{total}", end="\n" if done == total else "", flush=True)
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            print(f"{unit} {done}/{total}", flush=True)

    return show


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="brainpretrain",
        description="Self-supervised pretraining and fine-tuning for brain-MRI segmentation. "
        "The workflow calls these subcommands; each also runs by hand, with the line its log shows.",
    )
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary, function, arguments in _COMMANDS:
        description = f"{summary[0].upper()}{summary[1:]}.\n\n{inspect.getdoc(function)}"
        sub = subparsers.add_parser(name, help=summary, description=description,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        for names, options in arguments:
            sub.add_argument(*names, **options)
        sub.set_defaults(function=function)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand. Exit codes: 0 done, 2 the user can mend it, 128 + signal saved and can go on, else a bug."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parser().parse_args(argv)
        if not sys.stdout.isatty() and not getattr(args, "json", False):  # what a program reads is JSON and nothing else
            print(f"$ brainpretrain {shlex.join(argv)}", flush=True)
        args.function(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        return _end_on_full_disk(error)
    return 0


def _end_on_full_disk(error: OSError) -> int:
    """Exit code after a write that no other place explains: to a log, or to where standard output goes."""
    from brainpretrain.files import FULL, full_disk

    if error.errno not in FULL:
        raise error
    path = error.filename or os.path.realpath("/proc/self/fd/1")
    with suppress(OSError):
        print(f"error: {full_disk(path, error.errno)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _silence(stream)
    return 2


def _silence(stream: Any) -> None:
    """What Python still has to write there at its end would raise once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
