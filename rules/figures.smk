"""Figures of the report, and the viewer of whole volumes next to it."""

from dataclasses import replace

from brainpretrain.plan.table_spec import fold_name

OVERLAYS = STUDY + "/overlays"
OVERLAY_CASES = OVERLAYS + "/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.js"
FOLDS = [fold_name(fold, seed) for fold in range(CONFIG.study.folds) for seed in CONFIG.study.seeds or [None]]


def table_runs(wildcards):
    """run.json of every training behind a table."""
    table = PLAN.tables[wildcards.table]
    trainings = {replace(e, arm=arm).training for e in PLAN.table_evaluations(table) for arm in e.arm.chain}
    trainings |= {pretraining.path for pretraining in PLAN.table_pretrainings(table)}
    return [f"{STUDY}/{training}/run.json" for training in sorted(trainings)]


def table_candidates(wildcards):
    """run.json of the trainings from which the learning rates of a table were chosen."""
    arms = {(arm, e.fold) for e in PLAN.table_evaluations(PLAN.tables[wildcards.table]) for arm in e.arm.chain}
    return sorted({f"{STUDY}/{e.training}/run.json" for arm, fold in arms for e in PLAN.candidates(arm, fold)})


rule plot_cases:
    input:
        table_scores,
    output:
        shown(FIGURES + "/{table}_cases.png", RESULTS_SECTION, "paired_cases", table="{table}", shows="every case"),
    log:
        STUDY + "/logs/plot_cases/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
    shell:
        "brainpretrain plot-cases --scores {input:q} --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


rule plot_costs:
    input:
        scores=table_scores,
        runs=table_runs,
        candidates=table_candidates,
    output:
        html=shown(FIGURES + "/{table}_costs.html", RESULTS_SECTION, "costs", table="{table}", shows="hours and memory"),
        tsv=FIGURES + "/{table}_costs.tsv",
        svg=FIGURES + "/{table}_costs.svg",
    log:
        STUDY + "/logs/plot_costs/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain plot-costs --scores {input.scores:q} --runs {input.runs:q} {input.candidates:q} --spec {params.spec:q} --out {params.out:q}"
        " > {log:q} 2>&1"


def watched_logs(wildcards):
    """Logs of the fine-tunings of a table that are validated."""
    recipes = {row.recipe for row in PLAN.tables[wildcards.table].rows if row.watched}
    evaluations = PLAN.table_evaluations(PLAN.tables[wildcards.table])
    return sorted({f"{STUDY}/{e.training}/log.csv" for e in evaluations if e.arm.recipe in recipes})


rule plot_validation:
    input:
        watched_logs,
    output:
        shown(FIGURES + "/{table}_validation.svg", RESULTS_SECTION, "validation", table="{table}", shows="validation"),
    log:
        STUDY + "/logs/plot_validation/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
    shell:
        "brainpretrain plot-validation --logs {input:q} --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


rule plot_budgets:
    input:
        scores=table_scores,
        runs=table_runs,
    output:
        html=shown(FIGURES + "/{table}_budgets.html", RESULTS_SECTION, "budgets", table="{table}", shows="label budgets"),
        tsv=FIGURES + "/{table}_budgets.tsv",
        svg=FIGURES + "/{table}_budgets.svg",
        matched=FIGURES + "/{table}_matched.tsv",
    log:
        STUDY + "/logs/plot_budgets/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
        bootstrap=lambda w: specs.as_json(CONFIG.settings.bootstrap),
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain plot-budgets --scores {input.scores:q} --runs {input.runs:q} --spec {params.spec:q}"
        " --bootstrap {params.bootstrap:q} --out {params.out:q} > {log:q} 2>&1"


rule plot_robustness:
    input:
        table_scores,
    output:
        svg=shown(FIGURES + "/{table}_robustness.svg", RESULTS_SECTION, "robustness", table="{table}", shows="robustness"),
        tsv=FIGURES + "/{table}_robustness.tsv",
    log:
        STUDY + "/logs/plot_robustness/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
        out=subpath(output.svg, parent=True),
    shell:
        "brainpretrain plot-robustness --scores {input:q} --spec {params.spec:q} --out {params.out:q} > {log:q} 2>&1"


rule plot_composition:
    input:
        corpus=CORPUS,
        volumes=of_corpus(VOLUMES),
    output:
        shown(FIGURES + "/corpora/{corpus}.png", CORPUS_SECTION, "composition", shows="composition of {corpus}"),
    log:
        STUDY + "/logs/plot_composition/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=of_corpus("{dataset}=" + VOLUMES),
    shell:
        "brainpretrain plot-composition --corpus {input.corpus:q} --volumes {params.volumes:q} --data {params.data:q}"
        " --out {output:q} > {log:q} 2>&1"


rule plot_alignments:
    input:
        VOLUMES,
    output:
        shown(FIGURES + "/alignments/{dataset}/{preprocess}.png", CORPUS_SECTION, "alignments", shows="alignment of {dataset}"),
    log:
        STUDY + "/logs/plot_alignments/{dataset}/{preprocess}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        atlas=lambda w: CONFIG.preprocess[w.preprocess].atlas or "",
    shell:
        "brainpretrain plot-alignments --volumes {input:q} --atlas={params.atlas:q} --out {output:q} > {log:q} 2>&1"


rule plot_loss_pretraining:
    input:
        PRETRAIN + "/log.csv",
    output:
        shown(
            PRETRAIN_FIGURES + "/loss.svg",
            TRAINING_SECTION,
            "loss",
            training="{pretext} on {corpus}, {backbone}",
            shows="curves",
        ),
    log:
        STUDY + "/logs/plot_loss_pretraining/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        title="{pretext} on {corpus}, {backbone}",
    shell:
        "brainpretrain plot-loss {input:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


# a rule made by `use rule` does not inherit `localrule`
localrules:
    plot_loss_finetuning,


use rule plot_loss_pretraining as plot_loss_finetuning with:
    input:
        expand(FOLD + "/log.csv", fold=FOLDS, allow_missing=True),
    output:
        shown(
            ARM_FIGURES + "/loss.svg",
            TRAINING_SECTION,
            "loss",
            lambda w: {"training": verbatim(arm_title(w)), "shows": "curves"},
        ),
    log:
        STUDY + "/logs/plot_loss_finetuning/{task}/{backbone}/{init}/{recipe}/n{n_train}.log",
    params:
        title="{task}, {backbone}, {init}, n={n_train}",


rule plot_reconstructions:
    input:
        PRETRAIN + "/reconstruction.npz",
    output:
        shown(
            PRETRAIN_FIGURES + "/reconstruction.png",
            TRAINING_SECTION,
            "reconstructions",
            training="{pretext} on {corpus}, {backbone}",
            shows="reconstruction",
        ),
    log:
        STUDY + "/logs/plot_reconstructions/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain plot-reconstructions {input:q} --out {output:q} > {log:q} 2>&1"


def of_folds(pattern):
    """An input: `pattern` for every evaluation of an arm on a cohort."""

    def paths(wildcards):
        folds = [(e.fold, e.seed) for e in PLAN.scored if e.arm == arm_of(wildcards) and e.cohort == wildcards.cohort]
        return [pattern.format(fold=fold_name(*fold), **wildcards) for fold in folds]

    return paths


def evaluation_folders(wildcards, input):
    """Folders of the scores and predictions of an arm, one for each fold."""
    return [str(Path(path).parent) for path in input.scores]


rule plot_overlays:
    input:
        scores=of_folds(SCORES),
        predictions=of_folds(PREDICTIONS),
        volumes=cohort_volumes,
    output:
        shown(
            ARM_FIGURES + "/{cohort}.png",
            CASES_SECTION,
            "overlays",
            lambda w: {"arm": verbatim(f"{arm_title(w)} ({w.cohort})")},
        ),
    log:
        STUDY + "/logs/plot_overlays/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=per_attempt(4000),
        runtime=30,
        root=cohort_root,
        # a resource, since the scores of other subsets would be others, too
        subsets=lambda w: specs.as_json(CONFIG.tasks[w.task].subsets_of(w.cohort)),
    params:
        folders=evaluation_folders,
        task=as_json(specs.task_overlays, "task", "cohort"),
    shell:
        "brainpretrain plot-overlays --evaluations {params.folders:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --task {params.task:q} --subsets {resources.subsets:q} --out {output:q} > {log:q} 2>&1"


rule overlay_cases:
    input:
        scores=of_folds(SCORES),
        predictions=of_folds(PREDICTIONS),
        volumes=cohort_volumes,
    output:
        OVERLAY_CASES,
    log:
        STUDY + "/logs/overlay_cases/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=per_attempt(4000),
        runtime=30,
        root=cohort_root,
        # a resource, since the scores of other subsets would be others, too
        subsets=lambda w: specs.as_json(CONFIG.tasks[w.task].subsets_of(w.cohort)),
    params:
        folders=evaluation_folders,
        task=as_json(specs.task_overlays, "task", "cohort"),
        title=lambda w: f"{arm_title(w)} ({w.cohort})",
    shell:
        "brainpretrain overlay-cases --evaluations {params.folders:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --task {params.task:q} --subsets {resources.subsets:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


# next to the report and only by request, since it needs NiiVue's bundle and holds whole volumes
rule page_overlays:
    input:
        sorted({OVERLAY_CASES.format(cohort=e.cohort, **vars(e.arm)) for e in PLAN.scored}),
    output:
        page=OVERLAYS + "/index.html",
    log:
        STUDY + "/logs/page_overlays.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        bundle=f"{CONFIG.settings.data_root}/niivue/niivue.umd.js",
    params:
        title=lambda w: CONFIG.study.title,
    shell:
        "brainpretrain page-overlays {input:q} --bundle {resources.bundle:q} --title {params.title:q} --out {output.page:q}"
        " > {log:q} 2>&1"


rule overlays:
    input:
        rules.page_overlays.output,
