"""Paths, wildcards, and look-ups into the plan. No number of the method stands in any rule."""

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

RESULTS = CONFIG.settings.results
DATA = f"{RESULTS}/data"
STUDY = f"{RESULTS}/{CONFIG.study_name}"
STORED = DATA + "/{dataset}/{preprocess}"
STORED_VOLUMES = STORED + "/volumes.tsv"
WORK = f"{RESULTS}/work"
RELEASE = RESULTS + "/weights/{release}/{backbone}"
PRETRAIN = STUDY + "/pretrain/{corpus}/{pretext}/{backbone}"
ARM = STUDY + "/finetune/{task}/{backbone}/{init}/{recipe}/n{n_train}"
FOLD = ARM + "/fold{fold}"
BIDS = STUDY + "/bids/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}"
SPLIT = STUDY + "/splits/{task}/fold{fold}.json"

# a report sorts its sections by name
CORPUS, OVERLAP, TRAINING, RESULTS_SECTION, CASES = (
    "1 Corpus",
    "2 Overlap and licences",
    "3 Training",
    "4 Results",
    "5 Cases",
)


wildcard_constraints:
    dataset="[a-z0-9_]+",
    preprocess="[a-z0-9_]+",
    corpus="[a-z0-9_]+",
    pretext="[a-z0-9_]+",
    backbone="[a-z0-9_]+",
    task="[a-z0-9_]+",
    init="[a-z0-9_]+(-on-[a-z0-9_]+)?",
    release="[a-z0-9_]+",
    recipe="[a-z0-9_]+",
    n_train=r"\d+|all",
    fold=r"\d+",
    cohort="val|test|ood",
    shard=r"\d{3}",
    table="|".join(PLAN.tables),


def as_json(entry, *fields):
    """An entry of the config as JSON text for a command line: all of it, or only the fields that shape this result."""
    content = entry.model_dump(mode="json") if hasattr(entry, "model_dump") else entry
    return json.dumps({key: content[key] for key in fields} if fields else content, sort_keys=True)


def module(dataset):
    """Module of a data set: its entry in the config if it has one, else its name."""
    return CONFIG.datasets[dataset].module if dataset in CONFIG.datasets else dataset


def options(dataset):
    """What a data set of the project's or the user's own is described with, as JSON."""
    return as_json(CONFIG.datasets[dataset].options if dataset in CONFIG.datasets else {})


def stored_volumes(dataset, preprocess):
    """The table of the stored volumes of a data set."""
    return STORED_VOLUMES.format(dataset=dataset, preprocess=preprocess)


def cohort_dataset_of(task, cohort):
    """The data set that a cohort of a task lies in."""
    entry = CONFIG.tasks[task]
    return entry.ood.dataset if cohort == "ood" else entry.dataset


def cohort_dataset(wildcards):
    return cohort_dataset_of(wildcards.task, wildcards.cohort)


def corpus_datasets(corpus):
    """The data sets of a corpus."""
    return sorted({source.dataset for source in corpus.sources})


def fingerprints_of(dataset, preprocess):
    """The fingerprints of the stored volumes of a data set."""
    return f"{DATA}/{dataset}/{preprocess}/fingerprints.npz"


def cohort_file(task, cohort):
    """The file that the subjects of a cohort stand in; `val` is what a fold leaves of the pool."""
    return f"{STUDY}/splits/{task}/{'ood' if cohort == 'ood' else 'subjects'}.json"


def fixed_inputs(wildcards):
    """The subjects of a cohort that is the same in every fold."""
    return {} if wildcards.cohort == "val" else {"fixed": cohort_file(wildcards.task, wildcards.cohort)}


def fixed_option(wildcards, input):
    return [] if wildcards.cohort == "val" else ["--fixed", input.fixed]


def cohort_volumes(wildcards):
    """The stored volumes that a cohort of a task is taken from."""
    return stored_volumes(cohort_dataset(wildcards), CONFIG.tasks[wildcards.task].preprocess)


def cohort_root(wildcards):
    """The raw files of a cohort, for labels and headers."""
    return CONFIG.data_root(cohort_dataset(wildcards))


def tell_moved_data():
    """A line for every data set that was indexed at another place than the config says now."""
    for dataset in PLAN.datasets:
        source = Path(f"{DATA}/{dataset}/source.json")
        root = Path(CONFIG.data_root(dataset)).absolute()
        if source.exists() and Path(json.loads(source.read_text())["root"]) != root:
            print(
                f"{dataset}: its index was made from {json.loads(source.read_text())['root']}, files are now read from {root};"
                " if other files are there, take them up with --forcerun fetch",
                file=sys.stderr,
            )


def refuse_what_splits_cannot_give():
    """Before any job, in a dry run too: that a split which is made already has too few subjects for the study."""
    for task in PLAN.tasks:
        subjects = Path(f"{STUDY}/splits/{task}/subjects.json")
        if subjects.exists():
            brainpretrain.cohorts.splits.check_sizes(json.loads(subjects.read_text()), PLAN.asked(task), subjects)


def refuse_second_copies():
    """Jobs of an earlier Snakemake in this folder are still in Slurm's queue: each would be submitted a second time."""
    if not shutil.which("squeue"):
        return
    listed = subprocess.run(["squeue", "--me", "--noheader", "--format=%i %T %k|%Z"], capture_output=True, text=True)
    here = [line.split("|")[0] for line in listed.stdout.splitlines() if line.endswith(f"|{Path.cwd()}") and " rule_" in line]
    if here:
        numbers = " ".join(line.split()[0] for line in here)
        raise WorkflowError(
            f"{len(here)} jobs of an earlier Snakemake in this folder are still in Slurm's queue, the first: {here[0]}. Let them"
            f" end (what they finish counts), or cancel them (trainings save and continue later): scancel {numbers}"
        )
