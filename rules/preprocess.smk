"""Index to stored volumes (a table per shard), splits by subject, and corpora."""


rule shard:
    input:
        index=DATA + "/{dataset}/index.tsv",
    output:
        STORED + "/shard{shard}.tsv",
    log:
        RESULTS + "/logs/shard/{dataset}/{preprocess}/{shard}.log",
    conda:
        "../envs/environment.yaml"
    # as many volumes at a time, each in a process; a profile sets it, the result does not depend on it
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: 4000 * threads * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        root=lambda w: CONFIG.data_root(w.dataset),
        # a tolerance, not a part of the result: raising it makes nothing anew
        max_rejected=lambda w: str(CONFIG.preprocess[w.preprocess].max_rejected_fraction),
        # a check, and no part of the result either
        labels=lambda w: ",".join(map(str, PLAN.label_values(w.dataset))),
    params:
        recipe=lambda w: as_json(CONFIG.stored_as(w.preprocess, w.dataset)),
        shards=lambda w: PLAN.n_shards(w.dataset),
        number=lambda w: int(w.shard),
    shell:
        "brainpretrain shard --index {input.index:q} --root {resources.root:q} --recipe {params.recipe:q}"
        " --shard {params.number} --n-shards {params.shards} --workers {threads} --max-rejected {resources.max_rejected}"
        " --labels={resources.labels:q} --out {output:q} > {log:q} 2>&1"


def shard_tables(wildcards):
    """The tables of all shards of a data set; their number is a constant of the data set, so the DAG needs no data."""
    folder = STORED.format(**wildcards)
    return [f"{folder}/shard{n:03d}.tsv" for n in range(PLAN.n_shards(wildcards.dataset))]


# one table in place of many: whatever reads a data set has one input, which makes planning hundreds of jobs cheaper
rule volumes:
    input:
        shard_tables,
    output:
        STORED_VOLUMES,
    log:
        RESULTS + "/logs/volumes/{dataset}/{preprocess}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain volumes {input:q} --out {output:q} > {log:q} 2>&1"


def split_spec(task):
    """What shapes the split of a task; the block belongs to the folds, and the ood cohort to no fold."""
    drawn = task.split.model_dump(include={"seed", "test_fraction", "stratify"}, exclude_defaults=True)
    return as_json({**task.model_dump(mode="json", include={"dataset", "sequences", "subsets"}), "split": drawn})


rule split:
    input:
        index=lambda w: f"{DATA}/{CONFIG.tasks[w.task].dataset}/index.tsv",
    output:
        STUDY + "/splits/{task}/subjects.json",
    log:
        STUDY + "/logs/split/{task}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        # what is asked of the split is looked at, and does not shape it
        asked=lambda w: " ".join(":".join(pair) for pair in PLAN.asked(w.task)),
    params:
        task=lambda w: split_spec(CONFIG.tasks[w.task]),
    shell:
        "brainpretrain split --index {input.index:q} --task {params.task:q} --asked {resources.asked} --out {output:q} > {log:q} 2>&1"


rule ood:
    input:
        index=lambda w: f"{DATA}/{CONFIG.tasks[w.task].ood.dataset}/index.tsv",
        subjects=STUDY + "/splits/{task}/subjects.json",
    output:
        STUDY + "/splits/{task}/ood.json",
    log:
        STUDY + "/logs/ood/{task}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        task=lambda w: as_json(CONFIG.tasks[w.task], "sequences", "ood"),
    shell:
        "brainpretrain ood --index {input.index:q} --task {params.task:q} --subjects {input.subjects:q} --out {output:q}"
        " > {log:q} 2>&1"


rule fold:
    input:
        STUDY + "/splits/{task}/subjects.json",
    output:
        SPLIT,
    log:
        STUDY + "/logs/fold/{task}/{fold}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        block=lambda w: CONFIG.tasks[w.task].split.block,
    shell:
        "brainpretrain fold --subjects {input:q} --fold {wildcards.fold} --block {params.block} --out {output:q} > {log:q} 2>&1"


def corpus_volumes(wildcards):
    """Pairs (data set, table of its stored volumes) of a corpus."""
    corpus = CONFIG.corpora[wildcards.corpus]
    return [(name, stored_volumes(name, corpus.preprocess)) for name in corpus_datasets(corpus)]


def corpus_pools(wildcards):
    """Pairs (task, subjects file) of the tasks whose pool a source of the corpus is limited to."""
    tasks = sorted({source.pool_of for source in CONFIG.corpora[wildcards.corpus].sources if source.pool_of})
    return [(task, f"{STUDY}/splits/{task}/subjects.json") for task in tasks]


def corpus_spec(corpus):
    """What shapes a corpus."""
    content = corpus.model_dump(mode="json", include={"sources", "val_fraction"})
    for source in content["sources"]:
        if not source["exclude"]:
            del source["exclude"]
    return as_json(content)


rule corpus:
    input:
        volumes=lambda w: [table for _, table in corpus_volumes(w)],
        pools=lambda w: [subjects for _, subjects in corpus_pools(w)],
    output:
        STUDY + "/corpora/{corpus}/corpus.tsv",
    log:
        STUDY + "/logs/corpus/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        corpus=lambda w: corpus_spec(CONFIG.corpora[w.corpus]),
        volumes=lambda w: [f"{name}={table}" for name, table in corpus_volumes(w)],
        pools=lambda w: [f"{task}={subjects}" for task, subjects in corpus_pools(w)],
        seed=CONFIG.study.seed,
    shell:
        "brainpretrain corpus --volumes {params.volumes:q} --pools {params.pools:q} --data {params.data:q}"
        " --corpus {params.corpus:q} --seed {params.seed} --out {output:q} > {log:q} 2>&1"
