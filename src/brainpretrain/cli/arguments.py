"""What the files of commands share: arguments, parsers of argument text, and readers of the files that arguments name."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainpretrain.errors import UserError

REGISTERED: dict[str, tuple[Callable, tuple]] = {}  # function and arguments of each command whose file is imported


def arg(*names: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One argument of a subcommand, as for `argparse.add_argument`."""
    return names, options


def command(name: str, *arguments: tuple) -> Callable:
    """Registers a function as the command `name`; its docstring is the long help."""

    def register(function: Callable) -> Callable:
        REGISTERED[name] = function, arguments
        return function

    return register


def mapping(text: str) -> dict[str, Any]:
    """A mapping given as JSON text, or as @file with YAML or JSON inside."""
    if text.startswith("@"):
        path = Path(text[1:])
        if path.suffix != ".json":
            from brainpretrain.config.reading import read_yaml

            return read_yaml(path)
        text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"neither JSON nor @file: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON mapping")
    return value


def table_spec(text: str) -> Any:
    """A table of results as the plan describes it, given as JSON text, or as @file with YAML or JSON inside."""
    from brainpretrain.plan.table_spec import TableSpec  # imports the config, which most commands do not need

    return TableSpec.read(mapping(text))


def integers(text: str) -> list[int]:
    """Integers separated by commas."""
    return [int(word) for word in text.split(",") if word]


def folder(text: str) -> Path | None:
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
TASK = arg("--task", type=mapping, required=True, metavar="JSON", help="task entry (JSON, or @file.yaml)")
OPTIONS = arg("--options", type=mapping, default={}, metavar="JSON", help="options of the data set's entry in the config")


def entry(section: str) -> Callable[[str], dict[str, Any]]:
    """Type of an argument that is an entry of a config section: its name in `config/`, or the entry as JSON or @file."""

    def read(text: str) -> dict[str, Any]:
        if text.startswith(("{", "@")):
            return mapping(text)
        from brainpretrain import config

        return config.load().get(section, text, "command line").model_dump(mode="json")

    return read


COHORT = (
    VOLUMES,
    ROOT,
    SPLIT,
    TASK,
    arg("--n-train", required=True, help="labelled cases the model saw (a number, or 'all')"),
    arg("--cohort", required=True, choices=["val", "test", "ood"], help="pool less training cases, fixed test set, or ood"),
    arg("--fixed", type=Path, metavar="JSON", help="what `split` (for test) or `ood` (for ood) wrote"),
)


SCORES = arg("--scores", type=Path, nargs="+", required=True, metavar="TSV", help="tables that `evaluate` wrote")


SPEC = arg(
    "--spec", type=table_spec, required=True, metavar="JSON", help="table: title, folds, columns, rows (JSON, or @file.yaml)"
)


def named(pairs: list[str]) -> dict[str, str]:
    """NAME=FILE arguments as a mapping."""
    return dict(pair.split("=", 1) for pair in pairs)


def stored_by_dataset(pairs: list[str], data: Path) -> dict[str, Any]:
    """Tables of stored volumes by data set, with `file` made relative to the data folder."""
    import pandas as pd

    found: dict[str, list] = {}
    for pair in pairs:
        name, path = pair.split("=", 1)
        table, folder = stored(Path(path))
        table["file"] = [str((folder / file).relative_to(data)) if file else "" for file in table["file"]]
        found.setdefault(name, []).append(table)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def stored(path: Path) -> tuple[Any, Path]:
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


def joined(paths: list[Path]) -> Any:
    """Tables of the same columns, one below the other."""
    import pandas as pd

    from brainpretrain.files import read_tsv

    return pd.concat([read_tsv(path) for path in paths], ignore_index=True)


def cohort(args: argparse.Namespace) -> tuple[list, Path]:
    """Cases of the cohort, and the folder of the raw data set."""
    from brainpretrain.cohorts import splits
    from brainpretrain.cohorts.cases import labelled_cases
    from brainpretrain.files import read_json

    table, folder = stored(args.volumes)
    by_subject = labelled_cases(table, folder, args.task["sequences"])
    fold, fixed = read_json(args.split), read_json(args.fixed) if args.fixed else {}
    wanted = fold["order"] if args.cohort == "val" else fixed.get(args.cohort, [])
    if unusable := sorted(set(wanted) - set(by_subject)):
        print(f"{len(unusable)} of {len(wanted)} subjects have no usable case (see the rejected volumes): {' '.join(unusable)}")
    subjects = splits.cohort_subjects(fold, set(by_subject), args.n_train, args.cohort, fixed)
    return [case for subject in subjects for case in by_subject[subject]], args.root


def progress(unit: str) -> Callable[[int, int], None]:
    """A counter line on a terminal, a line per tenth elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{unit} {done}/{total}", end="\n" if done == total else "", flush=True)
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            print(f"{unit} {done}/{total}", flush=True)

    return show
