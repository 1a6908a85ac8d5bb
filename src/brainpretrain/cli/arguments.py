"""What the files of commands share: the registry of commands, common arguments, and parsers of argument text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REGISTERED: dict[str, tuple[Callable, tuple]] = {}  # function and arguments of each command whose file is imported


def command(name: str, *arguments: tuple) -> Callable:
    """Registers a function as the command `name`; its docstring is the long help."""

    def register(function: Callable) -> Callable:
        REGISTERED[name] = function, arguments
        return function

    return register


def arg(*names: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One argument of a command, as for `argparse.add_argument`."""
    return names, options


def pairs(name: str, form: str, required: bool = False, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """An argument that takes several pairs of texts, read as a list of tuples.

    Args:
        form: what the help shows for a pair, such as NAME=TSV or N:COHORT; a text is split at the first such separator.
        required: at least one pair must be given.
    """
    separator = "=" if "=" in form else ":"

    def pair(text: str) -> tuple[str, str]:
        first, between, second = text.partition(separator)
        if not between or not first:
            raise argparse.ArgumentTypeError(f"'{text}' is not of the form {form}")
        return first, second

    number = {"nargs": "+", "required": True} if required else {"nargs": "*", "default": []}
    return arg(name, type=pair, metavar=form, **number, **options)


def mapping(text: str) -> dict[str, Any]:
    """A mapping given as JSON text, or as @file with YAML or JSON inside."""
    if text.startswith("@") and not text.endswith(".json"):
        from brainpretrain.config.reading import read_yaml  # a quarter of a second, and the workflow passes JSON

        return read_yaml(Path(text[1:]))
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"neither JSON nor @file: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON mapping")
    return value


def table_spec(text: str) -> Any:
    """A table of results as the plan describes it, given as JSON text, or as @file with YAML or JSON inside."""
    from brainpretrain.plan.table_spec import TableSpec  # imports the config, which most commands do not need

    return TableSpec.read(mapping(text))


def entry(section: str) -> Callable[[str], dict[str, Any]]:
    """Type of an argument that is an entry of a config section: its name in `config/`, or the entry as JSON or @file."""

    def read(text: str) -> dict[str, Any]:
        if text.startswith(("{", "@")):
            return mapping(text)
        from brainpretrain import config  # only for an entry that is given by its name

        return config.load().get(section, text, "command line").model_dump(mode="json")

    return read


def integers(text: str) -> list[int]:
    """Integers separated by commas."""
    return [int(word) for word in text.split(",") if word]


def folder(text: str) -> Path | None:
    """A folder that must exist; None for ''."""
    if text and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{text}'")
    return Path(text) if text else None


def progress(unit: str) -> Callable[[int, int], None]:
    """A function that prints how many units are done: a counter line on a terminal, a line per tenth elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{unit} {done}/{total}", end="\n" if done == total else "", flush=True)
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            print(f"{unit} {done}/{total}", flush=True)

    return show


def persons_of(indexes: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """By data set with a module that knows persons, subject to person; `indexes`: tables with a column subject, by data set."""
    from brainpretrain import datasets  # most commands describe none

    modules = {name: datasets.load(name) for name in indexes if name in datasets.names()}
    return {
        name: {subject: module.persons(subject) for subject in indexes[name]["subject"]}
        for name, module in modules.items()
        if module.persons
    }


OUT = arg("--out", type=Path, required=True, metavar="FILE", help="file to write")
OUT_FILES = arg(
    "--out", type=Path, nargs="+", required=True, metavar="FILE", help="files to write; the suffix chooses the format of each"
)
OPTIONS = arg("--options", type=mapping, default={}, metavar="JSON", help="options of the data set's entry in the config")
DATASET = arg("--dataset", required=True, metavar="NAME", help="module in datasets/ that describes the data set")
INDEX = arg("--index", type=Path, required=True, metavar="TSV", help="index of the data set")
ROOT = arg("--root", type=Path, required=True, metavar="DIR", help="folder of the raw files")
VOLUMES = arg("--volumes", type=Path, required=True, metavar="TSV", help="stored volumes of the data set (output of `volumes`)")
NAMED_VOLUMES = pairs("--volumes", "NAME=TSV", required=True, help="stored volumes of each data set, by its name")
WORKERS = arg("--workers", type=int, default=1, help="number of processes")
DATA = arg("--data", type=Path, required=True, metavar="DIR", help="folder of the preprocessed data sets")
SUBJECTS = arg("--subjects", type=Path, required=True, metavar="JSON", help="output of `split` for the task")
SPLIT = arg("--split", type=Path, required=True, metavar="JSON", help="split of the fold")
CORPUS = arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv")
ENCODER = arg("--encoder", type=Path, required=True, metavar="DIR", help="folder of encoder.safetensors and encoder.json")
TASK = arg("--task", type=mapping, required=True, metavar="JSON", help="task entry (JSON, or @file.yaml)")
SCORES = arg("--scores", type=Path, nargs="+", required=True, metavar="TSV", help="score tables (output of `evaluate`)")
SPEC = arg(
    "--spec", type=table_spec, required=True, metavar="JSON", help="table: title, folds, columns, rows (JSON, or @file.yaml)"
)
