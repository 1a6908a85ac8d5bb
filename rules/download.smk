"""Downloads: only on request, `snakemake download_all` or `download_<data set>`. Nothing else waits for one, or needs a network.

Raw data: in <data_root>/<data set>. Output: source.json (what was found there), index.tsv (its volumes).

Encoders that others published: in <data_root>/weights. Output: encoder.safetensors and encoder.json, as pretraining writes them.
Where the files lie is a resource: data that moved are the same data, and run nothing again.
"""

import time

from brainpretrain import datasets
from brainpretrain.download.download import can_be_had, refuse_without_variables

# data sets that come from elsewhere: neither made here nor the user's own
DOWNLOADS = [name for name in PLAN.datasets if name not in CONFIG.datasets and datasets.load(name).access != "embedded"]
READY = [name for name in DOWNLOADS if can_be_had(datasets.load(name), Path(CONFIG.incoming(name)))]

ASKED = time.strftime("%Y-%m-%d %H:%M:%S")


def download_records(names):
    return [f"{DATA}/{name}/download.json" for name in names]


def asked_for(dataset):
    """The record of a data set that is asked for by name; without its credentials, no job begins."""

    def record(wildcards):
        mirror = Path(CONFIG.settings.mirror) if CONFIG.settings.mirror else None
        root, incoming = Path(CONFIG.data_root(dataset)), Path(CONFIG.incoming(dataset))
        refuse_without_variables(datasets.load(dataset), root, incoming, mirror)
        return download_records([dataset])

    return record


rule download:
    output:
        DATA + "/{dataset}/download.json",
    log:
        RESULTS + "/logs/download/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=lambda w: CONFIG.data_root(w.dataset),
        incoming=lambda w: CONFIG.incoming(w.dataset),
        mirror=CONFIG.settings.mirror,
    params:
        module=lambda w: module(w.dataset),
        asked=ASKED,  # so that every request looks again at what is in place
    shell:
        "brainpretrain download --dataset {params.module} --root {resources.root:q} --incoming {resources.incoming:q}"
        " --mirror={resources.mirror:q} --out {output:q} > {log:q} 2>&1"


rule fetch:
    output:
        DATA + "/{dataset}/source.json",
    log:
        RESULTS + "/logs/fetch/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=lambda w: CONFIG.data_root(w.dataset),
    params:
        module=lambda w: module(w.dataset),
        options=lambda w: options(w.dataset),
    shell:
        "brainpretrain fetch --dataset {params.module} --root {resources.root:q} --options {params.options:q} --out {output:q}"
        " > {log:q} 2>&1"


rule index:
    input:
        DATA + "/{dataset}/source.json",
    output:
        DATA + "/{dataset}/index.tsv",
    log:
        RESULTS + "/logs/index/{dataset}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=lambda w: CONFIG.data_root(w.dataset),
    params:
        module=lambda w: module(w.dataset),
        options=lambda w: options(w.dataset),
    shell:
        "brainpretrain index --dataset {params.module} --root {resources.root:q} --options {params.options:q} --out {output:q} > {log:q} 2>&1"


rule import_weights:
    output:
        encoder=RELEASE + "/encoder.safetensors",
        facts=RELEASE + "/encoder.json",
        report=RELEASE + "/import.tsv",
        card=RELEASE + "/card.md",
    log:
        RESULTS + "/logs/import_weights/{release}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=CONFIG.data_root("weights"),
    params:
        file=lambda w: CONFIG.release(w.release, w.backbone)["file"],
        backbone=lambda w: as_json(CONFIG.backbones[w.backbone], "architecture", "options"),
        release=lambda w: as_json(CONFIG.release(w.release, w.backbone)),
        out=subpath(output.encoder, parent=True),
    shell:
        "brainpretrain import {resources.root:q}/{params.file:q} --backbone {params.backbone:q} --release {params.release:q}"
        " --out {params.out:q} > {log:q} 2>&1"


for _dataset in DOWNLOADS:

    # `snakemake download_wmh`
    rule:
        name:
            f"download_{_dataset}"
        input:
            asked_for(_dataset),
        localrule: True


# what needs nobody: open data, accounts whose variables are set, and archives that lie ready
rule download_all:
    input:
        download_records(READY),
    localrule: True
    conda:
        "../envs/environment.yaml"
    message:
        f"In place: {', '.join(READY) or 'none'}. Not asked for, since they need you: {', '.join(sorted({*DOWNLOADS} - {*READY})) or 'none'}"
