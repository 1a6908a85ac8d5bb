"""The command `zoo`: writes the study that compares published encoders on one's own labelled data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from brainpretrain import config
from brainpretrain.cli.arguments import arg, command
from brainpretrain.download import check as checks
from brainpretrain.download import encoders
from brainpretrain.errors import UserError
from brainpretrain.files import atomic
from brainpretrain.plan import zoo

OWN_KEYS = ("data_roots", "datasets")  # of a first study, which describe the data


@command(
    "zoo",
    arg("--data", type=Path, required=True, metavar="FOLDER", help="a data set of datasets/, BIDS, nnU-Net's raw data, or a CSV"),
    arg("--task", metavar="NAME", help="entry of config/tasks.yaml, for a data set of datasets/ (default: its first task)"),
    arg("--all", action="store_true", help="also encoders whose files are not at hand"),
    arg("--encoders", nargs="+", metavar="NAME", help="these entries, or NAME/BACKBONE for one of their files, at hand or not"),
    arg("--config-folder", type=Path, default=Path("config"), metavar="DIR", help="config with the entries"),
    arg("--out", type=Path, metavar="FILE", help="study file to write (default: studies/zoo.yaml of the config folder)"),
)  # fmt: skip
def write_zoo(args: argparse.Namespace) -> None:
    """Compares every encoder at hand with training from scratch: 5, 10 and 20 labelled cases, three draws, three seeds.

    Volumes, patch and intensities are those of each encoder's own entry, and its control is the same network from scratch with
    the same augmentation and schedule. The study ends in one page, figures/zoo.html: helps, hurts or undecided, by how much,
    hours, licence.
    """
    settings = config.load(args.config_folder)
    root = Path(settings.data_root("weights"))
    chosen = (
        _named(settings, args.encoders)
        if args.encoders
        else [
            (name, backbone)
            for name, release in settings.weights.items()
            for backbone, file in release.files.items()
            if args.all or encoders.at_hand(file.model_dump(mode="json"), root)
        ]
    )
    task, shared, pool, largest = _data(settings, args.data, args.task)
    content, left = zoo.study(settings, task, chosen, pool, largest, shared)
    out = args.out or args.config_folder / "studies" / "zoo.yaml"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    with atomic(out) as temporary:
        temporary.write_text(f"# Written by `brainpretrain zoo`.\n{text}", encoding="utf-8")
    arms = sum(len(row["init"]) * len(row["n_train"]) for table in content["tables"].values() for row in table["rows"])
    print(f"{out}: {arms} arms of {len(content['tables'])} tables, each {zoo.FOLDS} draws with {len(zoo.SEEDS)} seeds")
    for line in left:
        print(f"left out: {line}")
    name = out.stem if out.parent == args.config_folder / "studies" else out
    print(f"brainpretrain plan {name}, then brainpretrain run {name}; or snakemake -n --config study={name}")


def _named(settings: config.Config, names: list[str]) -> list[tuple[str, str]]:
    """Release and backbone of each name."""
    found = []
    for name in names:
        entry, _, backbone = name.partition("/")
        files = settings.get("weights", entry, "--encoders").files
        if backbone:
            settings.release(entry, backbone)  # refuses a backbone that it does not have
        found += [(entry, one) for one in files if backbone in ("", one)]
    return found


def _data(settings: config.Config, folder: Path, name: str | None) -> tuple[dict[str, Any], dict[str, Any], int, list[float]]:
    """The task, the keys that describe the data, the number of subjects that may train, and the largest extents in mm."""
    facts = checks.check(folder)
    if facts["problems"]:
        problem = "; ".join(map(str, facts["problems"][:3]))
        raise UserError(problem, where=folder, fix=f"correct the files; see brainpretrain check {folder}")
    largest = [size * mm for size, mm in zip(*([axis[1] for axis in facts[key]] for key in ("shape", "spacing_mm")), strict=True)]
    if facts["study"]:
        first = yaml.safe_load(facts["yaml"])
        ((own, task),) = first["tasks"].items()
        shared = {key: first[key] for key in OWN_KEYS} | {"corpora": first["corpora"], "corpus": own}
        labelled = facts["subjects"] if facts["labelled"] >= facts["subjects"] else facts["labelled"]
        return task, shared, labelled - round(task["split"]["test_fraction"] * labelled), largest
    module = facts["module"]
    known = [task for task, entry in settings.tasks.items() if entry.dataset == module]
    chosen = name or next(iter(known), None)
    if chosen is None:
        problem = f"the data set '{module}' has no task in config/tasks.yaml, or its volumes have no labels"
        raise UserError(problem, where=folder, fix="add a task, or give a folder with labels")
    entry = settings.get("tasks", chosen, "--task")
    corpus = next(iter(settings.corpora))
    pool = facts["labelled"] - round(entry.split.test_fraction * facts["labelled"])
    return {"like": chosen}, {"data_roots": {module: str(folder.resolve())}, "corpus": corpus}, pool, largest
