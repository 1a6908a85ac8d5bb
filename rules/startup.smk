"""Checks and warnings before any job: what cannot work also in a dry run, the others when a run starts."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from snakemake.resources import Resource, Resources

from brainpretrain.config import profiles
from brainpretrain.datasets import TEMPLATES
from brainpretrain.plan import checks, existing, fairness
from brainpretrain.training import gpus


def use_site():
    """Gives jobs the account, partitions and GPU type of `slurm` in config/local.yaml, in place of those of the profile.

    Called before any rule is defined, since a rule copies the default resources. A profile without account and partition stays as it is.
    """
    given, site = workflow.resource_settings, CONFIG.settings.slurm
    everywhere = {"slurm_account": site.account, "slurm_partition": site.partition, "qos": site.qos}
    of_gpus = {"slurm_partition": site.gpu_partition, "gpu_model": site.gpu_model, "constraint": site.constraint}
    if not {"slurm_account", "slurm_partition"} & set(given.default_resources or {}):
        return
    given.default_resources = _changed(given.default_resources, everywhere)
    on_gpus = ("pretrain", "finetune", "predict_cohort")
    given.overwrite_resources = {
        name: _changed(values, of_gpus) if name in on_gpus else values for name, values in given.overwrite_resources.items()
    }
    for name in ("_parsed_default_resources", "_parsed_overwrite_resources"):  # computed once, perhaps before
        given.__dict__.pop(name, None)


def _changed(resources, values):
    """Resources with the values that are given."""
    changes = {name: Resource(name, value) for name, value in values.items() if value is not None}
    return Resources({**Resources.from_mapping(resources), **changes})


def say_what_it_needs():
    """The first line of every call: the study, and the data sets that it reads, with those whose files are not in place."""
    embedded = [name for name in PLAN.datasets if CONFIG.described(name).access == "embedded"]
    missing = [name for name in PLAN.datasets if name not in embedded and not Path(CONFIG.data_root(name)).exists()]
    needs = ", ".join(f"{name} (made by the workflow)" if name in embedded else name for name in PLAN.datasets)
    line = f"study {CONFIG.study_name}: {CONFIG.study.title}; reads {needs}"
    if missing:
        line += f"; not in place: {', '.join(missing)} (brainpretrain datasets says how to get them)"
    print(line, file=sys.stderr)


def say_protocol():
    """One line with what `protocol: fair` adds to the study; nothing in a study without it."""
    if line := fairness.said(PLAN):
        print(line, file=sys.stderr)


def refuse_what_cannot_work():
    """Ends if files that exist, or the devices of the profile, show that a job of the study would refuse to run."""
    try:
        for task in PLAN.tasks:
            dataset = CONFIG.tasks[task].dataset
            index, subjects = Path(INDEX.format(dataset=dataset)), Path(SUBJECTS.format(task=task))
            existing.check_split(PLAN, task, subjects, index, partial(_listed, dataset))
        for task, cohort in PLAN.cohorts:
            if cohort in CONFIG.tasks[task].others and not Path(subjects_of(task, cohort)).exists():
                index = INDEX.format(dataset=CONFIG.tasks[task].dataset_of(cohort))
                existing.check_cohort(PLAN, task, cohort, Path(index), Path(SUBJECTS.format(task=task)))
        for dataset, preprocess in PLAN.preprocessed:
            volumes = VOLUMES.format(dataset=dataset, preprocess=preprocess)
            existing.check_patches(PLAN, dataset, preprocess, Path(volumes))
        for corpus in PLAN.corpora:
            entry = CONFIG.corpora[corpus]
            tables = {d: Path(VOLUMES.format(dataset=d, preprocess=entry.preprocess)) for d in entry.datasets}
            existing.check_filters(PLAN, corpus, tables)
        for rule in ("pretrain", "finetune"):
            checks.check_machine(PLAN, rule, *_devices_and_nodes(rule), has_gpu=True)
    except UserError as error:
        raise Refused(str(error)) from None


def _listed(dataset):
    """The rows that the index of the user's own data will have, and their folder; None if `fetch` would refuse the files."""
    entry, root = CONFIG.datasets.get(dataset), CONFIG.data_root(dataset)
    if entry is None or entry.module not in TEMPLATES or not Path(root).is_dir():
        return None
    # here, since only a study that was never run needs them
    import pandas as pd
    from brainpretrain.download.index import scan

    try:
        rows = scan(CONFIG.described(dataset), root).rows
    except UserError:
        return None
    return pd.DataFrame(rows).astype(str), root


def refuse_precisions_of_gpus():
    """Ends a run, not a dry run, that would train on this computer with a precision that only a GPU computes rightly."""
    for rule in {job.rule.name for job in workflow.dag.needrun_jobs()} & {"pretrain", "finetune"}:
        # a training runs here if it claims a GPU of this computer
        if "brainpretrain claim" in _resources(rule).get("launcher", "") and not gpus.visible(os.environ):
            try:
                checks.check_machine(PLAN, rule, *_devices_and_nodes(rule), has_gpu=False)
            except UserError as error:
                raise Refused(str(error)) from None


def _resources(rule):
    """The resources that profile and command line give a rule."""
    given = workflow.resource_settings._parsed_overwrite_resources.get(rule, {})
    return {name: str(value.raw) for name, value in given.items()}


def _devices_and_nodes(rule):
    values = _resources(rule)
    return [int(values.get(name, 1)) if values.get(name, "1").isdigit() else 1 for name in ("gpu", "nodes")]


def refuse_placeholders():
    """Ends if a resource that jobs are submitted with is still a placeholder of a profile; Slurm would refuse the first job."""
    given = workflow.resource_settings
    resources = [given._parsed_default_resources, *given._parsed_overwrite_resources.values()]
    values = [(name, str(value.raw)) for part in resources for name, value in part.items()]
    words = [word.removeprefix("--profile=") for word in sys.argv]
    folders = [Path(workflow.basedir), *(Path(word) for word in words if Path(word, "config.yaml").is_file())]
    try:
        profiles.refuse_placeholders(values, folders)
    except UserError as error:
        raise Refused(str(error)) from None


def warn_of_moved_data():
    """One line for every data set whose index was made from another folder than the config has now."""
    for dataset in PLAN.datasets:
        source = Path(f"{DATA}/{dataset}/source.json")
        root = Path(CONFIG.data_root(dataset)).absolute()
        if source.exists() and Path(indexed := json.loads(source.read_text())["root"]) != root:
            print(
                f"{dataset}: its index was made from {indexed}, files are now read from {root}; if the files there are others,"
                " index them with --forcerun fetch",
                file=sys.stderr,
            )


def end_on_hangup():
    """A closed terminal or a lost SSH connection ends a run as Ctrl-C does: without a lock, and trainings save. `nohup` still works."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def refuse_second_copies():
    """Ends if jobs of an earlier Snakemake in this folder are still in Slurm's queue: each would be submitted a second time."""
    if not shutil.which("squeue"):
        return
    queue = subprocess.run(["squeue", "--me", "--noheader", "--format=%i %T %k|%Z"], capture_output=True, text=True)
    jobs = [line.split("|")[0] for line in queue.stdout.splitlines() if line.endswith(f"|{Path.cwd()}") and " rule_" in line]
    if jobs:
        numbers = " ".join(job.split()[0] for job in jobs)
        raise Refused(
            f"{len(jobs)} jobs of an earlier Snakemake in this folder are still in Slurm's queue, the first: {jobs[0]}. Let them"
            f" end (what they finish counts), or cancel them (trainings save and continue later): scancel {numbers}"
        )
