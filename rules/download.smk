"""Raw data: in <data_root>/<data set>. Output: source.json (where they are), index.tsv (what they are)."""


rule fetch:
    output:
        DATA + "/{dataset}/source.json",
    log:
        RESULTS + "/logs/fetch/{dataset}.log",
    localrule: True
    params:
        module=lambda w: module(w.dataset),
        root=lambda w: CONFIG.data_root(w.dataset),
        options=lambda w: options(w.dataset),
        index=DATA + "/{dataset}/index.tsv",
    shell:
        "brainpretrain fetch --dataset {params.module} --root {params.root:q} --options {params.options:q}"
        " --known-index {params.index:q} --out {output:q}"
        " > {log:q} 2>&1"


rule index:
    input:
        # paths in the index are relative: data that moved are the same data
        source=ancient(DATA + "/{dataset}/source.json"),
    output:
        DATA + "/{dataset}/index.tsv",
    log:
        RESULTS + "/logs/index/{dataset}.log",
    localrule: True
    params:
        module=lambda w: module(w.dataset),
        options=lambda w: options(w.dataset),  # other phantoms, another index
    shell:
        "brainpretrain index --dataset {params.module} --source {input.source:q} --out {output:q} > {log:q} 2>&1"
