"""Model to predictions in native space, to scores per case and label, to one table of all scores."""


rule predict:
    input:
        unpack(fixed_inputs),
        volumes=cohort_volumes,
        split=SPLIT,
        model=FOLD + "/model.safetensors",
    output:
        directory(FOLD + "/{cohort}/predictions"),
    log:
        STUDY + "/logs/predict/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=240,
        gpu=1,
        launcher="",
        root=cohort_root,
    params:
        task=lambda w: as_json(CONFIG.tasks[w.task], "sequences"),
        fixed=fixed_option,
        inference=lambda w: as_json(CONFIG.finetune[w.recipe].inference),
    shell:
        "{resources.launcher} brainpretrain predict-cohort --model {input.model:q} --volumes {input.volumes:q} --root {resources.root:q} --split {input.split:q}"
        " --task {params.task:q} --n-train {wildcards.n_train} --cohort {wildcards.cohort} {params.fixed:q} --inference {params.inference:q}"
        " --threads {threads} --out {output:q} > {log:q} 2>&1"


# no target asks for it: `snakemake -- results/<study>/bids/<task>/<backbone>/<init>/<recipe>/n<n_train>/fold<fold>/<cohort>`
rule bids:
    input:
        unpack(fixed_inputs),
        volumes=cohort_volumes,
        split=SPLIT,
        model=FOLD + "/model.safetensors",
        predictions=FOLD + "/{cohort}/predictions",
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
        task=lambda w: as_json(CONFIG.tasks[w.task], "sequences"),
        fixed=fixed_option,
        dataset=lambda w: module(cohort_dataset(w)),
    shell:
        "brainpretrain bids --predictions {input.predictions:q} --model {input.model:q} --volumes {input.volumes:q}"
        " --root {resources.root:q} --split {input.split:q} --task {params.task:q} --n-train {wildcards.n_train}"
        " --cohort {wildcards.cohort} {params.fixed:q} --dataset {params.dataset} --out {output:q} > {log:q} 2>&1"


rule evaluate:
    input:
        unpack(fixed_inputs),
        volumes=cohort_volumes,
        split=SPLIT,
        predictions=FOLD + "/{cohort}/predictions",
    output:
        FOLD + "/{cohort}/scores.tsv",
    log:
        STUDY + "/logs/evaluate/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
        root=cohort_root,
    params:
        task=lambda w: as_json(
            CONFIG.tasks[w.task],
            "sequences",
            "labels",
            "ignore",
            "nsd_tolerance_mm",
            "lesions",
            "empty_masks",
            "hd95_missed_mm",
        ),
        fixed=fixed_option,
        run=lambda w: as_json({"study": CONFIG.study_name, **dict(w)}),
    shell:
        "brainpretrain evaluate --predictions {input.predictions:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --split {input.split:q} --task {params.task:q} --n-train {wildcards.n_train} --cohort {wildcards.cohort} {params.fixed:q}"
        " --run {params.run:q} --out {output:q} > {log:q} 2>&1"


rule scores:
    input:
        [f"{STUDY}/{evaluation.path}/scores.tsv" for evaluation in PLAN.evaluations],
    output:
        STUDY + "/scores.tsv",
    log:
        STUDY + "/logs/scores.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain scores {input:q} --out {output:q} > {log:q} 2>&1"
