"""Raw data: in <data_root>/<data set>. Output: source.json (what was found there), index.tsv (its volumes).

Where the files lie is a resource: data that moved are the same data, and run nothing again.
"""


rule fetch:
    output:
        DATA + "/{dataset}/source.json",
    log:
        RESULTS + "/logs/fetch/{dataset}.log",
    localrule: True
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
    resources:
        root=lambda w: CONFIG.data_root(w.dataset),
    params:
        module=lambda w: module(w.dataset),
    shell:
        "brainpretrain index --dataset {params.module} --root {resources.root:q} --out {output:q} > {log:q} 2>&1"
