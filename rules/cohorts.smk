"""Index and stored volumes to who trains and who is scored: splits, corpora, and the audit of their overlap."""


def fingerprints_of(task, cohort):
    """Fingerprints of the data set of a cohort."""
    entry = CONFIG.tasks[task]
    return FINGERPRINTS.format(dataset=entry.dataset_of(cohort), preprocess=entry.preprocess)


rule split:
    input:
        index=lambda w: INDEX.format(dataset=CONFIG.tasks[w.task].dataset),
        given=lambda w: CONFIG.tasks[w.task].split.file or [],
    output:
        SUBJECTS,
    log:
        STUDY + "/logs/split/{task}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        # a check that does not shape the split
        asked=lambda w: " ".join(":".join(pair) for pair in PLAN.draws(w.task)),
    params:
        task=as_json(specs.task_split, "task"),
        given=option("--given", "given"),
    shell:
        "brainpretrain split --index {input.index:q} --task {params.task:q} --asked {resources.asked} {params.given:q}"
        " --out {output:q} > {log:q} 2>&1"


rule ood:
    input:
        index=lambda w: INDEX.format(dataset=CONFIG.tasks[w.task].dataset_of(w.cohort)),
        subjects=SUBJECTS,
    output:
        OTHERS,
    log:
        STUDY + "/logs/ood/{task}/{cohort}.log",
    wildcard_constraints:
        cohort=OTHER_COHORTS,
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        task=as_json(specs.task_ood, "task", "cohort"),
    shell:
        "brainpretrain ood --index {input.index:q} --task {params.task:q} --subjects {input.subjects:q}"
        " --cohort {wildcards.cohort} --out {output:q} > {log:q} 2>&1"


def scored_cohorts(task):
    """The cohorts of a task that the study scores."""
    return [cohort for name, cohort in PLAN.cohorts if name == task]


def source_indexes(pattern):
    """An input or param: `pattern` for the data sets of the sources of a task and of its cohorts that are scored."""

    def paths(wildcards):
        entry = CONFIG.tasks[wildcards.task]
        scored = {entry.dataset_of(cohort) for cohort in scored_cohorts(wildcards.task)}
        used = {entry.sources[number].dataset for number in PLAN.sources_of(wildcards.task)}
        return expand(pattern, dataset=sorted(scored | used))

    return paths


def source_cohorts(pattern):
    """An input or param: `pattern` for every cohort of the task that is scored."""
    return lambda w: [
        pattern.format(task=w.task, cohort=cohort, path=subjects_of(w.task, cohort)) for cohort in scored_cohorts(w.task)
    ]


rule source:
    input:
        indexes=source_indexes(INDEX),
        cohorts=lambda w: sorted(set(source_cohorts("{path}")(w))),
    output:
        TASK_SOURCE,
    log:
        STUDY + "/logs/source/{task}/{number}.log",
    wildcard_constraints:
        number=r"\d+",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        source=lambda w: specs.as_json(specs.task_source(CONFIG, w.task, int(w.number))),
        cohorts=source_cohorts("{cohort}={path}"),
        indexes=source_indexes("{dataset}=" + INDEX),
    shell:
        "brainpretrain source --source {params.source:q} --cohorts {params.cohorts:q} --indexes {params.indexes:q}"
        " --out {output:q} > {log:q} 2>&1"


rule fold:
    input:
        subjects=SUBJECTS,
        sources=of_sources(TASK_SOURCE),
    output:
        SPLIT,
    log:
        STUDY + "/logs/fold/{task}/{fold}.log",
    wildcard_constraints:
        fold=r"\d+",  # the seeds of a fold have the same split
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        block=lambda w: PLAN.block(w.task),
    shell:
        "brainpretrain fold --subjects {input.subjects:q} --fold {wildcards.fold} --block {params.block}"
        " --sources {input.sources:q} --out {output:q} > {log:q} 2>&1"


def of_pools(pattern):
    """An input or param: `pattern` for every task to whose pool a source of the corpus is limited."""
    return lambda wildcards: expand(pattern, task=CONFIG.corpora[wildcards.corpus].pools)


rule corpus:
    input:
        volumes=of_corpus(VOLUMES),
        pools=of_pools(SUBJECTS),
    output:
        CORPUS,
    log:
        STUDY + "/logs/corpus/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        corpus=as_json(specs.corpus, "corpus"),
        volumes=of_corpus("{dataset}=" + VOLUMES),
        pools=of_pools("{task}=" + SUBJECTS),
        seed=CONFIG.study.seed,
    shell:
        "brainpretrain corpus --volumes {params.volumes:q} --pools {params.pools:q} --data {params.data:q}"
        " --corpus {params.corpus:q} --seed {params.seed} --out {output:q} > {log:q} 2>&1"


rule fingerprint:
    input:
        VOLUMES,
    output:
        FINGERPRINTS,
    log:
        RESULTS + "/logs/fingerprint/{dataset}/{preprocess}.log",
    conda:
        "../envs/environment.yaml"
    # volumes at a time, each in a process
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: 3000 * (threads + 1) * attempt,
        runtime=per_attempt(240),
    params:
        # an audit with fingerprints of an earlier kind would overlook copies
        revision=revision.FINGERPRINTS,
    shell:
        "brainpretrain fingerprint --volumes {input:q} --workers {threads} --out {output:q} > {log:q} 2>&1"


def audit_indexes(pattern):
    """An input or param: `pattern` for every data set of the corpus and of the cohorts."""
    scored = {CONFIG.tasks[task].dataset_of(cohort) for task, cohort in PLAN.cohorts}
    return lambda wildcards: expand(pattern, dataset=sorted({*CONFIG.corpora[wildcards.corpus].datasets, *scored}))


def audit_fingerprints(wildcards):
    """Fingerprints of the data sets of the corpus and of the cohorts."""
    return sorted({*of_corpus(FINGERPRINTS)(wildcards), *(fingerprints_of(*cohort) for cohort in PLAN.cohorts)})


def audit_volumes(wildcards):
    """Stored volumes of the data sets of the corpus and of the cohorts; they are beside the fingerprints."""
    return [path.replace("fingerprints.npz", "volumes.tsv") for path in audit_fingerprints(wildcards)]


rule overlap:
    input:
        corpus=CORPUS,
        subjects=sorted({subjects_of(*cohort) for cohort in PLAN.cohorts}),
        indexes=audit_indexes(INDEX),
        fingerprints=audit_fingerprints,
        # the images of the pairs that fingerprints suggest
        volumes=audit_volumes,
    output:
        overlap=OVERLAP,
        pairs=STUDY + "/corpora/{corpus}/pairs.tsv",
        pictures=STUDY + "/corpora/{corpus}/pairs.npz",
    log:
        STUDY + "/logs/overlap/{corpus}.log",
    # no training waits for the audit, but it goes first, and no table is made without it: see README.md
    priority: 100
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(240),
    params:
        cohorts=[f"{task}:{cohort}={subjects_of(task, cohort)}" for task, cohort in PLAN.cohorts],
        indexes=audit_indexes("{dataset}=" + INDEX),
        fingerprints=of_corpus("{dataset}=" + FINGERPRINTS),
        scored=[f"{task}:{cohort}={fingerprints_of(task, cohort)}" for task, cohort in PLAN.cohorts],
        near=CONFIG.settings.near_copy,
        protocol=lambda w: CONFIG.corpora[w.corpus].protocol,
    shell:
        "brainpretrain overlap --corpus {input.corpus:q} --cohorts {params.cohorts:q} --indexes {params.indexes:q}"
        " --fingerprints {params.fingerprints:q} --cohort-fingerprints {params.scored:q} --near {params.near}"
        " --protocol {params.protocol} --out {output.overlap:q} --pairs {output.pairs:q}"
        " --pictures {output.pictures:q} > {log:q} 2>&1"


# patients never stand on both sides: no table is made if a source holds a scored subject, by name or by image
rule overlap_sources:
    input:
        sources=of_sources(TASK_SOURCE),
        cohorts=lambda w: sorted(set(source_cohorts("{path}")(w))),
        indexes=source_indexes(INDEX),
        fingerprints=lambda w: sorted(
            {*of_sources(FINGERPRINTS)(w), *(fingerprints_of(w.task, cohort) for cohort in scored_cohorts(w.task))}
        ),
        volumes=lambda w: sorted(
            {*of_sources(VOLUMES)(w), *(cohort_volumes_of(w.task, cohort) for cohort in scored_cohorts(w.task))}
        ),
    output:
        overlap=SOURCE_OVERLAP,
        pairs=STUDY + "/splits/{task}/sources/pairs.tsv",
        pictures=STUDY + "/splits/{task}/sources/pairs.npz",
    log:
        STUDY + "/logs/overlap_sources/{task}.log",
    priority: 100
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(240),
    params:
        cohorts=source_cohorts("{task}:{cohort}={path}"),
        indexes=source_indexes("{dataset}=" + INDEX),
        fingerprints=of_sources("{dataset}=" + FINGERPRINTS),
        scored=lambda w: [f"{w.task}:{cohort}={fingerprints_of(w.task, cohort)}" for cohort in scored_cohorts(w.task)],
        near=CONFIG.settings.near_copy,
    shell:
        "brainpretrain overlap --sources {input.sources:q} --cohorts {params.cohorts:q} --indexes {params.indexes:q}"
        " --fingerprints {params.fingerprints:q} --cohort-fingerprints {params.scored:q} --near {params.near}"
        " --protocol strict --out {output.overlap:q} --pairs {output.pairs:q} --pictures {output.pictures:q} > {log:q} 2>&1"
