"""Scores to tables, figures and pages: what `snakemake --report` shows, and nothing that a training waits for."""

TABLES = STUDY + "/tables"
FIGURES = STUDY + "/figures"


def table_scores(wildcards):
    """Scores of the runs of one table, so that it waits for no other."""
    spec = PLAN.tables[wildcards.table]
    return [f"{STUDY}/{evaluation.path}/scores.tsv" for evaluation in PLAN.table_evaluations(spec)]


def table_overlaps(wildcards):
    """The audits of the corpora behind a table: a strict corpus that shares a subject with a cohort gets no table."""
    arms = (evaluation.arm for evaluation in PLAN.table_evaluations(PLAN.tables[wildcards.table]))
    corpora = sorted({arm.pretraining.corpus for arm in arms if arm.pretraining})
    return [f"{STUDY}/corpora/{corpus}/overlap.tsv" for corpus in corpora]


TABLE_PARTS = ("", "_labels", "_metrics", "_ranks")


def audits(wildcards, input):
    """The audits behind a table, each with its corpus, which is the name of its folder."""
    return [f"{Path(path).parent.name}={path}" for path in input.overlaps]


rule table:
    input:
        scores=table_scores,
        overlaps=table_overlaps,
    output:
        files=[f"{TABLES}/{{table}}{part}.{kind}" for part in TABLE_PARTS for kind in ("tsv", "md", "tex", "txt")],
        ranks_png=TABLES + "/{table}_ranks.png",
        html=report(
            TABLES + "/{table}.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "results"},
            caption="report/results.rst",
        ),
        label_html=report(
            TABLES + "/{table}_labels.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "per label and fold"},
            caption="report/per_label.rst",
        ),
        metrics_html=report(
            TABLES + "/{table}_metrics.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "all metrics"},
            caption="report/metrics.rst",
        ),
        ranks_html=report(
            TABLES + "/{table}_ranks.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "ranks"},
            caption="report/ranks.rst",
        ),
        ranks_svg=report(
            TABLES + "/{table}_ranks.svg",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "ranks, drawn"},
            caption="report/rank_plot.rst",
        ),
    log:
        STUDY + "/logs/table/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: as_json(PLAN.tables[w.table]),
        overlaps=audits,
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain table --scores {input.scores:q} --spec {params.spec:q} --overlaps {params.overlaps:q} --out {params.out:q}"
        " > {log:q} 2>&1"


rule plot_cases:
    input:
        table_scores,
    output:
        report(
            FIGURES + "/{table}_cases.png",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "every case"},
            caption="report/paired_cases.rst",
        ),
    log:
        STUDY + "/logs/plot_cases/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: as_json(PLAN.tables[w.table]),
    shell:
        "brainpretrain plot-cases --scores {input:q} --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


def table_runs(wildcards):
    """run.json of every training behind a table."""
    spec = PLAN.tables[wildcards.table]
    evaluations = PLAN.table_evaluations(spec)
    places = {f"{evaluation.arm.path}/fold{evaluation.fold}" for evaluation in evaluations}
    places |= {evaluation.arm.pretraining.path for evaluation in evaluations if evaluation.arm.pretraining}
    return [f"{STUDY}/{place}/run.json" for place in sorted(places)]


rule plot_costs:
    input:
        scores=table_scores,
        runs=table_runs,
    output:
        html=report(
            FIGURES + "/{table}_costs.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "hours and memory"},
            caption="report/costs.rst",
        ),
        tsv=FIGURES + "/{table}_costs.tsv",
        svg=FIGURES + "/{table}_costs.svg",
    log:
        STUDY + "/logs/plot_costs/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: as_json(PLAN.tables[w.table]),
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain plot-costs --scores {input.scores:q} --runs {input.runs:q} --spec {params.spec:q} --out {params.out:q} > {log:q} 2>&1"


rule plot_budgets:
    input:
        scores=table_scores,
        runs=table_runs,
    output:
        html=report(
            FIGURES + "/{table}_budgets.html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "label budgets"},
            caption="report/budgets.rst",
        ),
        tsv=FIGURES + "/{table}_budgets.tsv",
        svg=FIGURES + "/{table}_budgets.svg",
        matched=FIGURES + "/{table}_matched.tsv",
    log:
        STUDY + "/logs/plot_budgets/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: as_json(PLAN.tables[w.table]),
        bootstrap=as_json(CONFIG.settings.bootstrap),
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain plot-budgets --scores {input.scores:q} --runs {input.runs:q} --spec {params.spec:q}"
        " --bootstrap {params.bootstrap:q} --out {params.out:q} > {log:q} 2>&1"


rule plot_composition:
    input:
        corpus=STUDY + "/corpora/{corpus}/corpus.tsv",
        volumes=lambda w: [table for _, table in corpus_volumes(w)],
    output:
        report(
            FIGURES + "/corpora/{corpus}.png",
            category=CORPUS,
            labels={"shows": "composition of {corpus}"},
            caption="report/composition.rst",
        ),
    log:
        STUDY + "/logs/plot_composition/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=lambda w: [f"{name}={table}" for name, table in corpus_volumes(w)],
    shell:
        "brainpretrain plot-composition --corpus {input.corpus:q} --volumes {params.volumes:q} --data {params.data:q}"
        " --out {output:q} > {log:q} 2>&1"


def study_volumes():
    """Pairs (data set, table of its stored volumes) of everything the study reads."""
    return [(name, stored_volumes(name, preprocess)) for name, preprocess in PLAN.preprocessed]


rule page_rejected:
    input:
        [table for _, table in study_volumes()],
    output:
        report(
            FIGURES + "/rejected.html",
            category=CORPUS,
            labels={"shows": "rejected volumes of all data sets"},
            caption="report/rejected.rst",
        ),
    log:
        STUDY + "/logs/page_rejected.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=[f"{name}={table}" for name, table in study_volumes()],
    shell:
        "brainpretrain page-rejected --volumes {params.volumes:q} --data {params.data:q} --out {output:q} > {log:q} 2>&1"


rule plot_pretraining:
    input:
        log=PRETRAIN + "/log.csv",
    output:
        report(
            FIGURES + "/pretrain/{corpus}/{pretext}/{backbone}/loss.svg",
            category=TRAINING,
            labels={
                "training": "{pretext} on {corpus}, {backbone}",
                "shows": "curves",
            },
            caption="report/loss.rst",
        ),
    log:
        STUDY + "/logs/plot_pretraining/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        title="{pretext} on {corpus}, {backbone}",
    shell:
        "brainpretrain plot-loss {input.log:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


rule plot_reconstructions:
    input:
        PRETRAIN + "/reconstruction.npz",
    output:
        report(
            FIGURES + "/pretrain/{corpus}/{pretext}/{backbone}/reconstruction.png",
            category=TRAINING,
            labels={
                "training": "{pretext} on {corpus}, {backbone}",
                "shows": "reconstruction",
            },
            caption="report/reconstructions.rst",
        ),
    log:
        STUDY + "/logs/plot_reconstructions/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain plot-reconstructions {input:q} --out {output:q} > {log:q} 2>&1"


rule page_pretraining:
    input:
        PRETRAIN + "/run.json",
    output:
        report(
            FIGURES + "/pretrain/{corpus}/{pretext}/{backbone}/run.html",
            category=TRAINING,
            labels={
                "training": "{pretext} on {corpus}, {backbone}",
                "shows": "run card",
            },
            caption="report/run_card.rst",
        ),
    log:
        STUDY + "/logs/page_pretraining/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain page-run {input:q} --out {output:q} > {log:q} 2>&1"


def arm_titles():
    """Arm -> what the tables call it. A report shows only one of two entries with the same labels, so no two are called the same."""
    titles = {}
    for spec in PLAN.tables.values():
        for column, row in itertools.product(spec.columns, spec.rows):
            arm = brainpretrain.plan.tables.Arm(column.task, *row.arm)
            titles.setdefault(arm, f"{column.title}: {row.title}")
    twice = {title for title, count in Counter(titles.values()).items() if count > 1}
    return {arm: f"{title} ({arm.path})" if title in twice else title for arm, title in titles.items()}


ARM_TITLES = arm_titles()


def arm_title(wildcards):
    return ARM_TITLES[
        brainpretrain.plan.tables.Arm(*(wildcards[name] for name in ("task", "backbone", "init", "recipe", "n_train")))
    ]


ARM_FIGURE = ARM.replace(STUDY + "/finetune", FIGURES + "/finetune")
FOLDS = range(CONFIG.study.folds)


rule plot_finetuning:
    input:
        [f"{ARM}/fold{fold}/log.csv" for fold in FOLDS],
    output:
        report(
            ARM_FIGURE + "/loss.svg",
            category=TRAINING,
            labels=lambda w: {"training": arm_title(w), "shows": "curves"},
            caption="report/loss.rst",
        ),
    log:
        STUDY + "/logs/plot_finetuning/{task}/{backbone}/{init}/{recipe}/n{n_train}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        title="{task}, {backbone}, {init}, n={n_train}",
    shell:
        "brainpretrain plot-loss {input:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


rule page_finetuning:
    input:
        ARM + "/fold0/run.json",
    output:
        report(
            ARM_FIGURE + "/run.html",
            category=TRAINING,
            labels=lambda w: {"training": arm_title(w), "shows": "run card of fold 0"},
            caption="report/run_card.rst",
        ),
    log:
        STUDY + "/logs/page_finetuning/{task}/{backbone}/{init}/{recipe}/n{n_train}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain page-run {input:q} --out {output:q} > {log:q} 2>&1"


def overlay_inputs(wildcards):
    folds = [f"{ARM}/fold{fold}/{{cohort}}".format(**wildcards) for fold in FOLDS]
    results = {part: [f"{fold}/{part}" for fold in folds] for part in ("scores.tsv", "predictions")}
    return {
        "scores": results["scores.tsv"],
        "predictions": results["predictions"],
    }


rule plot_overlays:
    input:
        unpack(overlay_inputs),
        volumes=cohort_volumes,
    output:
        report(
            ARM_FIGURE + "/{cohort}.png",
            category=CASES,
            labels=lambda w: {"arm": f"{arm_title(w)} ({w.cohort})"},
            caption="report/overlays.rst",
        ),
    log:
        STUDY + "/logs/plot_overlays/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
        root=cohort_root,
    params:
        folders=lambda w, input: [path.removesuffix("/scores.tsv") for path in input.scores],
        task=lambda w: as_json(CONFIG.tasks[w.task], "sequences", "labels", "ignore"),
    shell:
        "brainpretrain plot-overlays --evaluations {params.folders:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --task {params.task:q} --out {output:q} > {log:q} 2>&1"


OVERLAYS = STUDY + "/overlays"


rule overlay_cases:
    input:
        unpack(overlay_inputs),
        volumes=cohort_volumes,
    output:
        OVERLAYS + "/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.js",
    log:
        STUDY + "/logs/overlay_cases/{task}/{backbone}/{init}/{recipe}/n{n_train}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
        root=cohort_root,
    params:
        folders=lambda w, input: [path.removesuffix("/scores.tsv") for path in input.scores],
        task=lambda w: as_json(CONFIG.tasks[w.task], "sequences", "labels", "ignore"),
        title=lambda w: f"{arm_title(w)} ({w.cohort})",
    shell:
        "brainpretrain overlay-cases --evaluations {params.folders:q} --volumes {input.volumes:q} --root {resources.root:q}"
        " --task {params.task:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


# beside the report and asked for by name, since it needs NiiVue's bundle and holds whole volumes
rule overlays:
    input:
        sorted({f"{OVERLAYS}/{e.arm.path}/{e.cohort}.js".replace("/finetune/", "/") for e in PLAN.evaluations}),
    output:
        page=OVERLAYS + "/index.html",
    log:
        STUDY + "/logs/overlays.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        bundle=f"{CONFIG.settings.data_root}/niivue/niivue.umd.js",
    params:
        title=CONFIG.study.title,
    shell:
        "brainpretrain page-overlays {input:q} --bundle {resources.bundle:q} --title {params.title:q} --out {output.page:q} > {log:q} 2>&1"


def table_targets(name):
    """Everything that belongs to a table: the table itself and the figures of the runs behind it."""
    targets = {f"{TABLES}/{name}.html", f"{FIGURES}/{name}_cases.png", f"{FIGURES}/{name}_costs.html", f"{FIGURES}/rejected.html"}
    targets |= audit_targets(name)
    if PLAN.tables[name].has_budgets():
        targets.add(f"{FIGURES}/{name}_budgets.html")
    for evaluation in PLAN.table_evaluations(PLAN.tables[name]):
        arm = evaluation.arm
        targets |= {f"{FIGURES}/{arm.path}/{file}" for file in ("loss.svg", "run.html", f"{evaluation.cohort}.png")}
        if arm.pretraining:
            targets.add(f"{FIGURES}/corpora/{arm.pretraining.corpus}.png")
            targets |= {f"{FIGURES}/{arm.pretraining.path}/{file}" for file in ("loss.svg", "reconstruction.png", "run.html")}
            targets.add(f"{STUDY}/{arm.pretraining.path}/card.md")
    return sorted(targets)


for _table in PLAN.tables:
    if workflow.is_rule(_table):
        raise WorkflowError(f"a table cannot be called '{_table}', which is a step of the workflow: choose another name")

    # `snakemake table4` builds one table of the study and what it needs
    rule:
        name:
            _table
        input:
            table_targets(_table),
