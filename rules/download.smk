"""Raw data and their index. Downloads happen only on request: `snakemake download_all` or `download_<data set>`.

Raw data: in <data_root>/<data set>. Output: source.json (the files of the data set), index.tsv (its volumes).
No rule waits for a download or needs a network. Folders of raw data are resources: data that moved are the same data.
"""

import sys
import time
from pathlib import Path

from brainpretrain import datasets
from brainpretrain.download.download import can_be_had, refuse_without_variables

RECORD = DATA + "/{dataset}/download.json"
SOURCE = DATA + "/{dataset}/source.json"

# data sets from elsewhere: neither made here nor the user's own
DOWNLOADS = [name for name in PLAN.datasets if name not in CONFIG.datasets and datasets.load(name).access != "embedded"]
# of these, the data sets that need nobody: open data, accounts whose variables are set, and archives in place
READY = [name for name in DOWNLOADS if can_be_had(datasets.load(name), Path(CONFIG.incoming(name)))]


def module(wildcards):
    """Module of a data set."""
    return specs.module(CONFIG, wildcards.dataset)


FORCED = {}  # by data set, why its raw files are fetched and indexed again in this call, or ''


def if_changed(wildcards):
    """No input. Takes `--forcerun fetch` and `--forcerun index` back for a data set whose raw files are those on record.

    Snakemake runs everything below a forced job in the same call, whatever the job writes. So the look at the files, which these
    two jobs would do, happens while jobs are planned, and a dry run shows what will run. Called for every data set of the plan.
    """
    settings, dag, dataset = workflow.dag_settings, workflow.dag, wildcards.dataset
    by_rule = {rule: pattern.format(dataset=dataset) for rule, pattern in (("fetch", SOURCE), ("index", INDEX))}
    forced = {str(Path(name)) for name in settings.forcerun if workflow.is_main_process}
    files = {path for rule, path in by_rule.items() if forced & {rule, path}}
    if not files or dataset in FORCED:
        return []
    FORCED[dataset] = look(dataset)
    for rule in forced & set(by_rule):
        dag.forcerules.discard(workflow.get_rule(rule))
    dag.forcefiles -= files
    if FORCED[dataset]:
        dag.forcefiles |= files
    print(f"{dataset}: {FORCED[dataset] or 'its files are those on record, nothing below them runs again'}", file=sys.stderr)
    return []


def look(dataset):
    """Why the raw files of a data set must be indexed again, or ''. Imported here, since pandas takes a third of a second."""
    from brainpretrain.download import looking

    source, index = Path(SOURCE.format(dataset=dataset)), Path(INDEX.format(dataset=dataset))
    stored = [recipe.parent for recipe in sorted(source.parent.glob("*/recipe.json"))]
    root = Path(CONFIG.data_root(dataset))
    return looking.difference(CONFIG.described(dataset), root, source, index, stored, update=not workflow.dryrun)


def requested(dataset):
    """The record of a download that is requested by name; no job starts without its credentials."""

    def record(wildcards):
        mirror = Path(CONFIG.settings.mirror) if CONFIG.settings.mirror else None
        root, incoming = Path(CONFIG.data_root(dataset)), Path(CONFIG.incoming(dataset))
        refuse_without_variables(datasets.load(dataset), root, incoming, mirror)
        return RECORD.format(dataset=dataset)

    return record


rule download:
    output:
        RECORD,
    log:
        RESULTS + "/logs/download/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=data_root,
        incoming=lambda w: CONFIG.incoming(w.dataset),
        mirror=lambda w: CONFIG.settings.mirror,
    params:
        module=module,
        # a new time at every request, so that it looks again at the files in place
        asked=time.strftime("%Y-%m-%d %H:%M:%S"),
    shell:
        "brainpretrain download --dataset {params.module} --root {resources.root:q} --incoming {resources.incoming:q}"
        " --mirror={resources.mirror:q} --out {output:q} > {log:q} 2>&1"


rule fetch:
    input:
        if_changed,
    output:
        SOURCE,
    log:
        RESULTS + "/logs/fetch/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=data_root,
    params:
        module=module,
        options=as_json(specs.options, "dataset"),
    shell:
        "brainpretrain fetch --dataset {params.module} --root {resources.root:q} --options {params.options:q} --out {output:q}"
        " > {log:q} 2>&1"


rule index:
    input:
        SOURCE,
    output:
        INDEX,
    log:
        RESULTS + "/logs/index/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=data_root,
    params:
        module=module,
        options=as_json(specs.options, "dataset"),
    shell:
        "brainpretrain index --dataset {params.module} --root {resources.root:q} --options {params.options:q} --out {output:q}"
        " > {log:q} 2>&1"


for _dataset in DOWNLOADS:

    # `snakemake download_wmh`
    rule:
        name:
            f"download_{_dataset}"
        input:
            requested(_dataset),
        localrule: True


rule download_all:
    input:
        expand(RECORD, dataset=READY),
    localrule: True
    message:
        f"In place: {', '.join(READY) or 'none'}. Not asked for, since they need you: {', '.join(sorted({*DOWNLOADS} - {*READY})) or 'none'}"
