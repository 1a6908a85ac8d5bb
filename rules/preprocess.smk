"""Index to stored volumes, with a table per shard, joined to one table per data set."""


rule shard:
    input:
        index=INDEX,
    output:
        STORED + "/shard{shard}.tsv",
    log:
        RESULTS + "/logs/shard/{dataset}/{preprocess}/{shard}.log",
    conda:
        "../envs/environment.yaml"
    # volumes at a time, each in a process; a profile sets the number, and the result does not depend on it
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: 4000 * threads * attempt,
        runtime=per_attempt(120),
        root=data_root,
        # resources and not params, since a tolerance and a check do not shape the stored volumes
        max_rejected=lambda w: str(CONFIG.preprocess[w.preprocess].max_rejected_fraction),
        labels=lambda w: ",".join(map(str, PLAN.label_values(w.dataset))),
    params:
        recipe=as_json(Config.stored_as, "preprocess", "dataset"),
        shards=lambda w: PLAN.n_shards(w.dataset),
        number=lambda w: int(w.shard),
    shell:
        "brainpretrain shard --index {input.index:q} --root {resources.root:q} --recipe {params.recipe:q}"
        " --shard {params.number} --n-shards {params.shards} --workers {threads} --max-rejected {resources.max_rejected}"
        " --labels={resources.labels:q} --out {output:q} > {log:q} 2>&1"


def shard_tables(wildcards):
    """Tables of all shards of a data set. Their number is a constant of the data set, so the DAG needs no data."""
    folder = STORED.format(**wildcards)
    return [f"{folder}/shard{n:03d}.tsv" for n in range(PLAN.n_shards(wildcards.dataset))]


# one table in place of many: whatever reads a data set has one input, which makes planning hundreds of jobs cheaper
rule volumes:
    input:
        shard_tables,
    output:
        VOLUMES,
    log:
        RESULTS + "/logs/volumes/{dataset}/{preprocess}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain volumes {input:q} --out {output:q} > {log:q} 2>&1"
