"""Raw data: in <data_root>/<data set>. Output: source.json (what was found there), index.tsv (its volumes).

Encoders that others published: in <data_root>/weights. Output: encoder.safetensors and encoder.json, as pretraining writes them.
Where the files lie is a resource: data that moved are the same data, and run nothing again.
"""


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
