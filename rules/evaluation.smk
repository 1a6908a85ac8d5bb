"""Model to predictions in native space, to scores per case and label, to one table of all scores."""

from brainpretrain.files import nifti_files
from brainpretrain.plan import external
from brainpretrain.plan.table_spec import EXTERNAL, fold_name

PREDICTIONS = FOLD + "/{cohort}/predictions"
SCORES = FOLD + "/{cohort}/scores.tsv"
BIDS = STUDY + "/bids/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}"


def fixed_subjects(wildcards):
    """File of a cohort that is the same in every fold; `val` has none, since it is the rest of the pool."""
    return [] if wildcards.cohort == "val" else subjects_of(wildcards.task, wildcards.cohort)


rule predict_cohort:
    input:
        fixed=fixed_subjects,
        volumes=cohort_volumes,
        split=split_of,
        model=FOLD + "/model.safetensors",
    output:
        directory(PREDICTIONS),
    log:
        STUDY + "/logs/predict_cohort/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=per_attempt(16000),
        runtime=240,
        gpu=1,
        launcher="",
        root=cohort_root,
    params:
        task=as_json(specs.task_prediction, "task", "cohort"),
        fixed=option("--fixed", "fixed"),
        inference=as_json(specs.inference, "recipe"),
    shell:
        "{resources.launcher} brainpretrain predict-cohort --model {input.model:q} --volumes {input.volumes:q}"
        " --root {resources.root:q} --split {input.split:q} --task {params.task:q} --n-train {wildcards.n_train}"
        " --cohort {wildcards.cohort} {params.fixed:q} --inference {params.inference:q}"
        " --threads {threads} --out {output:q} > {log:q} 2>&1"


def external_files(wildcards):
    """Segmentations of another program, as far as they are there: the job says what is missing."""
    return [str(path) for path in _external_files(wildcards) if not set("{}") & set(str(path))]


def external_odd_files(wildcards):
    """Path, size and time of those with braces in their path, which Snakemake would take for wildcards."""
    odd = [path for path in _external_files(wildcards) if set("{}") & set(str(path))]
    return [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in odd]


def _external_files(wildcards):
    folder, pattern = external_place(wildcards)
    return nifti_files(Path(folder), pattern)


def external_place(wildcards):
    """Folder and pattern of the files of another program."""
    entry = external.entries(PLAN)[wildcards.init][1]
    return external.folder_of(PLAN, wildcards.task, wildcards.cohort, wildcards.init), entry.files


# the predictions of an arm of which nothing is trained: the rules below read them as those of a network
rule external:
    input:
        fixed=fixed_subjects,
        volumes=cohort_volumes,
        split=split_of,
        files=external_files,
    output:
        directory(PREDICTIONS),
    log:
        STUDY + "/logs/external/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    wildcard_constraints:
        backbone=EXTERNAL,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=120,
        root=cohort_root,
        folder=lambda w: external_place(w)[0],
    params:
        task=as_json(specs.task_scores, "task", "cohort"),
        fixed=option("--fixed", "fixed"),
        values=lambda w: specs.as_json(external.values_of(PLAN, w.task, w.init)),
        files=lambda w: external_place(w)[1],
        odd=external_odd_files,
    shell:
        "brainpretrain external --folder {resources.folder:q} --files {params.files:q} --values {params.values:q}"
        " --volumes {input.volumes:q} --root {resources.root:q} --split {input.split:q} --task {params.task:q}"
        " --n-train {wildcards.n_train} --cohort {wildcards.cohort} {params.fixed:q} --out {output:q} > {log:q} 2>&1"


ruleorder: external > predict_cohort


# no target needs it: `snakemake -- results/<study>/bids/<task>/<backbone>/<init>/<recipe>/n<n_train>/fold<fold>/<cohort>`
rule bids:
    input:
        fixed=fixed_subjects,
        volumes=cohort_volumes,
        split=split_of,
        model=FOLD + "/model.safetensors",
        predictions=PREDICTIONS,
    output:
        directory(BIDS),
    log:
        STUDY + "/logs/bids/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=cohort_root,
    params:
        task=as_json(specs.task_prediction, "task", "cohort"),
        fixed=option("--fixed", "fixed"),
        dataset=lambda w: specs.module(CONFIG, CONFIG.tasks[w.task].dataset_of(w.cohort)),
    shell:
        "brainpretrain bids --predictions {input.predictions:q} --model {input.model:q} --volumes {input.volumes:q}"
        " --root {resources.root:q} --split {input.split:q} --task {params.task:q} --n-train {wildcards.n_train}"
        " --cohort {wildcards.cohort} {params.fixed:q} --dataset {params.dataset} --out {output:q} > {log:q} 2>&1"


rule evaluate:
    input:
        fixed=fixed_subjects,
        volumes=cohort_volumes,
        split=split_of,
        predictions=PREDICTIONS,
    output:
        SCORES,
    log:
        STUDY + "/logs/evaluate/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=120,
        root=cohort_root,
    params:
        task=as_json(specs.task_scores, "task", "cohort"),
        fixed=option("--fixed", "fixed"),
        run=lambda w: specs.as_json({"study": CONFIG.study_name, **w}),
    shell:
        "brainpretrain evaluate --predictions {input.predictions:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --split {input.split:q} --task {params.task:q} --n-train {wildcards.n_train} --cohort {wildcards.cohort} {params.fixed:q}"
        " --run {params.run:q} --out {output:q} > {log:q} 2>&1"


rule scores:
    input:
        [f"{STUDY}/{evaluation.path}/scores.tsv" for evaluation in PLAN.scored],
    output:
        STUDY + "/scores.tsv",
    log:
        STUDY + "/logs/scores.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain scores {input:q} --out {output:q} > {log:q} 2>&1"


def candidate_scores(wildcards):
    """Scores of the candidates of an arm on the validation cases of a fold."""
    return [f"{STUDY}/{e.path}/scores.tsv" for e in PLAN.candidates(arm_of(wildcards), int(wildcards.fold))]


rule choose_rate:
    input:
        candidate_scores,
    output:
        RATE,
    log:
        STUDY + "/logs/choose_rate/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}.log",
    wildcard_constraints:
        fold=r"\d+",  # the seeds of a fold have the same rate
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        grid=lambda w: CONFIG.finetune[w.recipe].lr_grid,
    shell:
        "brainpretrain choose-rate --scores {input:q} --grid {params.grid} --out {output:q} > {log:q} 2>&1"


def looked_at(wildcards):
    """The cohort on which the encoders of an arm are compared: the rest of the pool, or, where all cases train, a scored one."""
    arm = arm_of(wildcards)
    return "val" if arm.n_train != "all" else next(e.cohort for e in PLAN.evaluations if e.arm == arm)


def with_first_seed(pattern):
    """An input: `pattern` for every fold of the study, with the first seed."""
    seed = CONFIG.study.seeds[0] if CONFIG.study.seeds else None
    return expand(pattern, fold=[fold_name(fold, seed) for fold in range(CONFIG.study.folds)], allow_missing=True)


def compared_volumes(wildcards):
    """Table of the stored volumes of the cohort on which encoders are compared."""
    task = CONFIG.tasks[wildcards.task]
    return VOLUMES.format(dataset=task.dataset_of(looked_at(wildcards)), preprocess=task.preprocess)


def compared_subjects(wildcards):
    """File of the cohort on which encoders are compared; `val` has none."""
    cohort = looked_at(wildcards)
    return [] if cohort == "val" else subjects_of(wildcards.task, cohort)


rule compare_encoders:
    input:
        fixed=compared_subjects,
        volumes=compared_volumes,
        init=initial_encoder,
        splits=expand(SPLIT, fold=range(CONFIG.study.folds), allow_missing=True),
        models=with_first_seed(FOLD + "/model.safetensors"),
    output:
        ARM + "/encoders.tsv",
    log:
        STUDY + "/logs/compare_encoders/{task}/{backbone}/{init}/{recipe}/n{n_train}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=60,
    params:
        task=as_json(specs.task_prediction, "task"),
        cohort=looked_at,
        fixed=option("--fixed", "fixed"),
        init=option("--init", "init"),
    shell:
        "brainpretrain compare-encoders --models {input.models:q} --splits {input.splits:q} {params.init:q} --volumes {input.volumes:q}"
        " --task {params.task:q} --n-train {wildcards.n_train} --cohort {params.cohort} {params.fixed:q} --threads {threads}"
        " --out {output:q} > {log:q} 2>&1"
