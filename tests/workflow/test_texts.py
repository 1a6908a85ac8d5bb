"""Text of the config with braces, quotes and other signs reaches the jobs and the report as it is: Snakemake expands none of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from brainpretrain import config
from brainpretrain.config.sections import SECTIONS, Settings, Study
from brainpretrain.datasets.own import bids, nnunet
from brainpretrain.datasets.own import csv as own_csv
from brainpretrain.errors import UserError
from brainpretrain.plan import tables
from helpers import ROOT

HOSTILE = "<{x} {3} {a{3,5}} {{ }} {input} {output[0]} {wildcards.corpus} {} %s %(x)s 'one' \"two\" $HOME `id` \\n ;é|*?>"


def hostile(key: str) -> str:
    return f"{key} {HOSTILE}"


def free_texts() -> set[str]:
    """Every key of the config whose value, or the key itself, is any text."""
    found: set[str] = set()

    def visit(model: type[BaseModel], path: str) -> None:
        for name, field in model.model_fields.items():
            if not field.metadata or field.annotation is not str:  # a pattern limits a name
                look(field.annotation, f"{path}.{name}")

    def look(annotation: Any, key: str) -> None:
        arguments, origin = typing.get_args(annotation), typing.get_origin(annotation)
        if annotation is str:
            found.add(key)
        elif origin is typing.Annotated:
            if arguments[0] is not str:
                look(arguments[0], key)
        elif origin is dict:
            if arguments[0] is str:
                found.add(f"{key} (key)")
            look(arguments[1], key)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            visit(annotation, key)
        elif origin is not typing.Literal:
            for argument in arguments:
                look(argument, key)

    for section, model in SECTIONS.items():
        visit(model, section)
    for name, model in (
        ("config", Settings),
        ("study", Study),
        ("bids", bids.Bids),
        ("nnunet", nnunet.NnUNet),
        ("csv", own_csv.Csv),
    ):
        visit(model, name)
    return found


# free texts with a form of their own, among them those that must be names of a data set; and those that no job is given
SUBSETS = {"tasks.sources.subsets", "tasks.subsets", "tasks.ood.subsets", "tasks.cohorts.subsets", "corpora.sources.subsets"}
SITE = {f"config.slurm.{key}" for key in ("account", "partition", "gpu_partition", "gpu_model", "qos", "constraint")}
OWN_FORM = SITE | {"bids.label", "nnunet.case", "config.results", "config.study", "config.data_roots (key)"} | SUBSETS
UNUSED = {"weights.files.md5", "weights.files.sha256", "weights.files.url", "tasks.lesions", "tasks.left_right"}
UNUSED |= {"tasks.split.file"}  # planning needs a file with the folds of the task
# texts that planning compares with another text of the study, whose place is tested: titles of rows, columns, classes, sequences
UNUSED |= {"tables.published.rows.row", "tables.published.rows.training_hours (key)", "tables.rows.init.row"}
UNUSED |= {"tasks.cohorts.degrade.sequence", "tasks.ood.degrade.sequence", "tasks.sources.labels (key)"}
UNUSED |= {"tasks.sources.exclude"}  # subjects of a source of a task, given to a job as those of a corpus are
UNUSED |= {"corpora.filters.exclude_sequences"}  # names that a source has, and `sequences` does not list
# planning compares the first with `sequences` of the task, and needs a file for the second
UNUSED |= {
    "preprocess.session",
    "preprocess.atlas",
    "config.profile",
}  # `run` gives the profile to Snakemake, and needs its folder


def study() -> dict[str, Any]:
    """A study in which every key that takes any text has `hostile(<key>)`, on one data set of each kind of own data."""
    flair = hostile("tasks.sequences")
    tiny = {"like": "coarse_2mm", "spacing_mm": [4, 4, 4], "note": hostile("preprocess.note")}
    own = {"licence": hostile("own.licence"), "citation": hostile("own.citation"), "labels": {1: hostile("own.labels")}}
    label = "{top}derivatives/{{x}}{folder}/{stem}_mask"
    options = {
        "h_bids": (
            "bids",
            {"sequences": {"FLAIR": flair, hostile("own.sequences (key)"): "T1w"}, "label_sequences": [flair], "label": label},
        ),
        "h_nnunet": ("nnunet", {"sequences": [flair], "case": "(?P<subject>p[0-9]{3})"}),
        "h_csv": ("csv", {"file": hostile("csv.file")}),
    }
    tasks = {
        name: {
            "note": hostile("tasks.note"),
            "dataset": name,
            "sequences": [flair],
            "labels": {hostile("tasks.labels (key)"): [1]},
            "lesions": [hostile("tasks.labels (key)")],
            "nsd_tolerance_mm": 2,
            "preprocess": "h_4mm",
            "split": {"seed": 0, "test_fraction": 0.3, "block": 2},
            "ood": {"dataset": name, "labels": {hostile("tasks.labels (key)"): [1]}, "by_site": True},
            "cohorts": {"site_b": {"dataset": name, "labels": {hostile("tasks.labels (key)"): [1]}, "by_site": True}},
        }
        for name in options
    }
    source = {
        "dataset": "h_nnunet",
        "sequences": [flair],
        "exclude": [hostile("corpora.sources.exclude")],
    }
    filters = {"exclude_words": [hostile("corpora.filters.exclude_words")], "sequences": [flair]}
    columns = [
        {"title": hostile(f"tables.columns.title {cohort} {task}"), "task": task, "cohort": cohort}
        for task in tasks
        for cohort in ("test", "ood", "site_b")
    ]
    release = {key: hostile(f"weights.{key}") for key in ("page", "licence", "citation", "corpus", "forbids", "note")}
    published = {
        "source": hostile("tables.published.source"),
        "notes": [hostile("tables.published.notes")],
        **{"corpus": "h_corpus", "recipe": "amaes", "n_train": 2, "folds": 1},
        "rows": [{"backbone": "unet_tiny", "cells": {columns[0]["title"]: [1.0]}}],
    }
    rows = [
        {"title": hostile("tables.rows.title"), "backbone": "unet_tiny", "init": ["scratch", "amaes", "h_release"]},
        {"title": hostile("tables.rows.baseline"), "backbone": "unet_tiny", "n_train": 4},
        {"title": "named", "backbone": "unet_tiny", "n_train": 3, "baseline": hostile("tables.rows.baseline")},
    ]
    table = {"title": hostile("tables.title"), "columns": columns, "corpus": "h_corpus", "recipe": "amaes", "n_train": 2}
    return {
        "title": hostile("study.title"),
        **{"seed": 0, "folds": 1, "protocol": "free", "build": ["h_table"]},
        "datasets": {name: {"module": kind, "options": own | more} for name, (kind, more) in options.items()},
        "preprocess": {"h_4mm": tiny},
        "corpora": {
            "h_corpus": {"sources": [source], "filters": filters}
            | {"preprocess": "h_4mm", "val_fraction": 0.2, "protocol": "strict"}
        },
        "tasks": tasks,
        "weights": {
            "h_release": release
            | {"preprocess": "h_4mm", "patch_size": [16, 16, 16], "files": {"unet_tiny": {"file": "a.pth", "url": HOSTILE}}}
        },
        "tables": {"h_table": table | {"rows": rows, "published": published}},
    }


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "texts.yaml").write_text(yaml.safe_dump(study(), allow_unicode=True))
    settings = {"results": str(folder / "results"), "mirror": hostile("config.mirror"), "data_root": hostile("config.data_root")}
    line = [sys.executable, "tests/support/planned_texts.py", str(folder / "texts.yaml")]
    done = subprocess.run([*line, *(f"{k}={v}" for k, v in settings.items())], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_study_of_this_test_has_every_text_that_a_config_may_hold():
    """A new key with free text needs a place in `study`."""
    keys = {key for key in free_texts() if not key.endswith((".note", "options (key)", "per_backbone (key)"))}
    places = {key: re.sub("^(bids|nnunet)", "own", key) for key in keys}
    places |= {"csv.licence": "own.licence", "csv.citation": "own.citation", "csv.labels": "own.labels"}
    places |= dict.fromkeys(("bids.sequences", "bids.label_sequences", "nnunet.sequences"), "tasks.sequences")
    places |= {"tables.published.rows.cells (key)": "tables.columns.title", "config.data_roots": "config.data_root"}
    of_labels = ("tasks.ood.labels (key)", "tasks.cohorts.labels (key)", "tables.rows.init.labels (key)")
    places |= dict.fromkeys(of_labels, "tasks.labels (key)")
    places |= dict.fromkeys(("corpora.sources.sequences", "corpora.filters.sequences", "weights.sequences"), "tasks.sequences")
    text = yaml.safe_dump(study(), width=10**6, allow_unicode=True) + hostile("config.mirror") + hostile("config.data_root")
    missing = {key for key in keys - OWN_FORM - UNUSED if places[key] not in text}
    assert not missing, sorted(missing)


def test_text_reaches_the_jobs_as_it_is(planned):
    given = "\n".join(text for job in planned["jobs"] for text in job)
    keys = set(re.findall(r"([a-z]+\.[a-z_. ()]+) <", yaml.safe_dump(study(), width=10**6, allow_unicode=True)))
    arrived = {key for key in keys if json.dumps(hostile(key))[1:-1] in given or hostile(key) in given}
    assert hostile("config.data_root") in given
    assert keys - arrived == {"tasks.note", "preprocess.note", "weights.note"}
    assert "(?P<subject>p[0-9]{3})" in given and "{top}derivatives/{{x}}{folder}" in given


def test_snakemake_expands_no_text_of_the_config(planned):
    """A rule must give such text by a function: Snakemake expands strings, and would plan another study without a word."""
    assert [(rule, text) for rule, texts in planned["expanded"].items() for text in texts if "<{x}" in text] == []


def test_the_report_shows_titles_as_they_are(planned):
    titles = {text.replace("\N{WORD JOINER}", "") for labels in planned["labels"] for text in labels.values()}
    for task in ("h_bids", "h_nnunet", "h_csv"):
        assert any(hostile(f"tables.columns.title test {task}") in title for title in titles)
    assert any(hostile("tables.rows.title") in title for title in titles)


@pytest.mark.parametrize("name", ["a{b}", "{", "b}"])
def test_names_of_folders_of_results_have_no_braces(config_dir, name):
    """They are parts of paths, in which a brace is a wildcard."""
    with pytest.raises(UserError, match=r"results: braces are wildcards of the workflow there.*\n.*config.yaml"):
        config.load(config_dir, {"results": name})
    (config_dir / "studies" / f"{name}.yaml").write_text((config_dir / "studies" / "demo.yaml").read_text())
    with pytest.raises(UserError, match=r"a study cannot be called .*braces are wildcards"):
        tables.make(config.load(config_dir, {"study": name}))
