"""Raw data and their index. Downloads happen only on request: `snakemake download_all` or `download_<data set>`.

Raw data: in <data_root>/<data set>. Output: source.json (the files of the data set), index.tsv (its volumes).
No rule waits for a download or needs a network. Folders of raw data are resources: data that moved are the same data.
"""

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
