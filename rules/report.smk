"""Tables and pages of the report: what `snakemake --report` shows, and nothing that a training waits for."""

from brainpretrain.plan.table_spec import fold_name

COMPOSITION = TABLES + "/{corpus}_composition"
SITES = TABLES + "/{table}_sites"
TRAININGS = TABLES + "/{table}_trainings"
ENCODERS = TABLES + "/{table}_encoders"
PRETRAIN_FIGURES = FIGURES + "/pretrain/{corpus}/{pretext}/{backbone}"
ARM_FIGURES = FIGURES + "/finetune/{task}/{backbone}/{init}/{recipe}/n{n_train}"

ARM_TITLES = specs.arm_titles(PLAN)


def arm_title(wildcards):
    """What the tables call an arm."""
    return ARM_TITLES[arm_of(wildcards)]


def table_spec(wildcards):
    """A table as JSON."""
    return specs.as_json(PLAN.tables[wildcards.table])


def table_scores(wildcards):
    """Scores of the runs of one table, so that it waits for no other."""
    return [f"{STUDY}/{e.path}/scores.tsv" for e in PLAN.table_scored(PLAN.tables[wildcards.table])]


def table_overlaps(wildcards):
    """The audits of the corpora behind a table: a strict corpus that shares a subject with a cohort gets no table."""
    pretrainings = PLAN.table_pretrainings(PLAN.tables[wildcards.table])
    return [OVERLAP.format(corpus=corpus) for corpus in sorted({pretraining.corpus for pretraining in pretrainings})]


def table_source_overlaps(wildcards):
    """The audits of the sources behind a table: a source that holds a scored subject gets no table."""
    tasks = dict.fromkeys(column.task for column in PLAN.tables[wildcards.table].columns)
    return [SOURCE_OVERLAP.format(task=task) for task in tasks if task in PLAN.with_sources]


def table_hours(wildcards):
    """run.json of the pretrainings and fine-tunings of a table that shows their hours."""
    table = PLAN.tables[wildcards.table]
    trained = sorted({evaluation.training for evaluation in PLAN.table_evaluations(table)}) if table.training_hours else []
    pretrained = [p.path for p in PLAN.table_pretrainings(table)] if table.hours else []
    return [f"{STUDY}/{path}/run.json" for path in [*pretrained, *trained]]


def table_pretraining_logs(wildcards):
    """Logs of the pretrainings of a table."""
    return [f"{STUDY}/{pretraining.path}/log.csv" for pretraining in PLAN.table_pretrainings(PLAN.tables[wildcards.table])]


# a param that is a function of the input is no trigger of its own
def audits(wildcards, input):
    """CORPUS=FILE of every audit behind a table; the corpus is the name of the folder."""
    return [f"{Path(path).parent.name}={path}" for path in input.overlaps]


rule table:
    input:
        scores=table_scores,
        overlaps=table_overlaps,
        source_overlaps=table_source_overlaps,
        runs=table_hours,
        pretrainings=table_pretraining_logs,
    output:
        files=expand(
            TABLES + "/{{table}}{part}.{kind}",
            part=["", "_labels", "_metrics", "_ranks", "_verdicts"],
            kind=["tsv", "md", "tex", "txt"],
        ),
        ranks_png=TABLES + "/{table}_ranks.png",
        html=shown(TABLES + "/{table}.html", RESULTS_SECTION, "results", table="{table}", shows="results"),
        label_html=shown(
            TABLES + "/{table}_labels.html", RESULTS_SECTION, "per_label", table="{table}", shows="per label and fold"
        ),
        metrics_html=shown(TABLES + "/{table}_metrics.html", RESULTS_SECTION, "metrics", table="{table}", shows="all metrics"),
        ranks_html=shown(TABLES + "/{table}_ranks.html", RESULTS_SECTION, "ranks", table="{table}", shows="ranks"),
        verdicts_html=shown(TABLES + "/{table}_verdicts.html", RESULTS_SECTION, "verdicts", table="{table}", shows="verdicts"),
        ranks_svg=shown(TABLES + "/{table}_ranks.svg", RESULTS_SECTION, "rank_plot", table="{table}", shows="ranks, drawn"),
    log:
        STUDY + "/logs/table/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
        overlaps=audits,
        out=subpath(output.html, parent=True),
    shell:
        "brainpretrain table --scores {input.scores:q} --spec {params.spec:q} --overlaps {params.overlaps:q} --runs {input.runs:q}"
        " --pretrainings {input.pretrainings:q} --out {params.out:q} > {log:q} 2>&1"


ZOO_TABLES = specs.zoo_tables(PLAN)


rule page_zoo:
    input:
        verdicts=expand(TABLES + "/{table}_verdicts.tsv", table=ZOO_TABLES),
        costs=expand(FIGURES + "/{table}_costs.tsv", table=ZOO_TABLES),
    output:
        html=shown(FIGURES + "/zoo.html", RESULTS_SECTION, "zoo", shows="published encoders"),
        tsv=FIGURES + "/zoo.tsv",
        md=FIGURES + "/zoo.md",
    log:
        STUDY + "/logs/page_zoo.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        releases=lambda w: specs.as_json(specs.releases(PLAN)),
        spec=lambda w: specs.as_json(PLAN.tables[ZOO_TABLES[0]]),
    shell:
        "brainpretrain page-zoo --verdicts {input.verdicts:q} --costs {input.costs:q} --releases {params.releases:q}"
        " --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


def sites_inputs(wildcards):
    """Scores of the cohorts that are shown by site; for each, the sites of its subjects, and those of the task's pool."""
    cohorts = [(column.task, column.cohort) for column in specs.sites_columns(PLAN, wildcards.table)]
    evaluations = PLAN.table_scored(PLAN.tables[wildcards.table])
    return {
        "scores": [f"{STUDY}/{e.path}/scores.tsv" for e in evaluations if (e.arm.task, e.cohort) in cohorts],
        "index": [INDEX.format(dataset=CONFIG.tasks[task].dataset_of(cohort)) for task, cohort in cohorts],
        "task_index": [INDEX.format(dataset=CONFIG.tasks[task].dataset) for task, _ in cohorts],
        "subjects": [SUBJECTS.format(task=task) for task, _ in cohorts],
    }


rule table_sites:
    input:
        unpack(sites_inputs),
        overlaps=table_overlaps,
    output:
        tsv=SITES + ".tsv",
        md=SITES + ".md",
        tex=SITES + ".tex",
        text=SITES + ".txt",
        html=shown(SITES + ".html", RESULTS_SECTION, "sites", table="{table}", shows="Dice by site"),
    log:
        STUDY + "/logs/table_sites/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: specs.as_json(specs.sites_table(PLAN, w.table)),
        overlaps=audits,
    shell:
        "brainpretrain table-sites --scores {input.scores:q} --spec {params.spec:q} --overlaps {params.overlaps:q}"
        " --index {input.index:q} --task-index {input.task_index:q} --subjects {input.subjects:q} --out {output:q} > {log:q} 2>&1"


def table_logs(wildcards):
    """Logs of the fine-tunings of a table."""
    return sorted({f"{STUDY}/{e.training}/log.csv" for e in PLAN.table_evaluations(PLAN.tables[wildcards.table])})


def table_rates(wildcards):
    """The learning rates that were chosen for the arms of a table."""
    chosen = {(e.arm, e.fold) for e in PLAN.table_evaluations(PLAN.tables[wildcards.table]) if PLAN.candidates(e.arm, e.fold)}
    return sorted(RATE.format(**vars(arm), fold=fold) for arm, fold in chosen)


rule table_trainings:
    input:
        logs=table_logs,
        rates=table_rates,
        pretrainings=table_pretraining_logs,
    output:
        tsv=TRAININGS + ".tsv",
        md=TRAININGS + ".md",
        tex=TRAININGS + ".tex",
        text=TRAININGS + ".txt",
        html=shown(TRAININGS + ".html", RESULTS_SECTION, "trainings", table="{table}", shows="convergence, learning rates"),
    log:
        STUDY + "/logs/table_trainings/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
        grids=lambda w: specs.as_json(specs.grids(PLAN, w.table)),
    shell:
        "brainpretrain table-trainings --logs {input.logs:q} --rates {input.rates:q} --pretrainings {input.pretrainings:q} --grids {params.grids:q}"
        " --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


rule table_encoders:
    input:
        lambda w: sorted({f"{STUDY}/{e.arm.path}/encoders.tsv" for e in PLAN.table_evaluations(PLAN.tables[w.table])}),
    output:
        tsv=ENCODERS + ".tsv",
        md=ENCODERS + ".md",
        tex=ENCODERS + ".tex",
        text=ENCODERS + ".txt",
        html=shown(
            ENCODERS + ".html", RESULTS_SECTION, "encoders", table="{table}", shows="encoders before and after fine-tuning"
        ),
        svg=shown(ENCODERS + ".svg", RESULTS_SECTION, "encoders", table="{table}", shows="encoders before and after, drawn"),
    log:
        STUDY + "/logs/table_encoders/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=table_spec,
    shell:
        "brainpretrain table-encoders --compared {input:q} --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


rule composition:
    input:
        corpus=CORPUS,
        volumes=of_corpus(VOLUMES),
    output:
        tsv=COMPOSITION + ".tsv",
        md=COMPOSITION + ".md",
        tex=COMPOSITION + ".tex",
        text=COMPOSITION + ".txt",
        html=shown(COMPOSITION + ".html", CORPUS_SECTION, "counts", shows="counts of {corpus} by source"),
    log:
        STUDY + "/logs/composition/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=of_corpus("{dataset}=" + VOLUMES),
        modules=as_json(specs.corpus_modules, "corpus"),
    shell:
        "brainpretrain composition --corpus {input.corpus:q} --name {wildcards.corpus} --volumes {params.volumes:q}"
        " --data {params.data:q} --modules {params.modules:q} --out {output:q} > {log:q} 2>&1"


rule table1:
    input:
        expand(COMPOSITION + ".html", corpus=PLAN.corpora),


rule licences:
    output:
        tsv=STUDY + "/licences.tsv",
        page=shown(FIGURES + "/licences.html", OVERLAP_SECTION, "licences", shows="licences"),
    log:
        STUDY + "/logs/licences.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        # functions, as every param that holds text of the config: see `verbatim` in common.smk
        uses=lambda w: specs.as_json(specs.dataset_uses(PLAN)),
        releases=lambda w: specs.as_json(specs.releases(PLAN)),
    shell:
        "brainpretrain licences --uses {params.uses:q} --releases {params.releases:q} --out {output.tsv:q} --page {output.page:q}"
        " > {log:q} 2>&1"


rule page_overlap:
    input:
        overlaps=expand(OVERLAP, corpus=PLAN.corpora) + expand(SOURCE_OVERLAP, task=PLAN.with_sources),
        pairs=expand(STUDY + "/corpora/{corpus}/pairs.{kind}", corpus=PLAN.corpora, kind=["tsv", "npz"]),
        splits=expand(SUBJECTS, task=PLAN.tasks),
    output:
        shown(FIGURES + "/overlap.html", OVERLAP_SECTION, "overlap", shows="subjects of a corpus that are scored too"),
    log:
        STUDY + "/logs/page_overlap.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        audits=expand("{corpus}=" + OVERLAP, corpus=PLAN.corpora)
        + expand("sources_of_task:{task}=" + SOURCE_OVERLAP, task=PLAN.with_sources),
        protocols=[f"{corpus}={CONFIG.corpora[corpus].protocol}" for corpus in PLAN.corpora]
        + [f"sources_of_task:{task}=sources" for task in PLAN.with_sources],
        splits=expand("{task}=" + SUBJECTS, task=PLAN.tasks),
        near=CONFIG.settings.near_copy,
    shell:
        "brainpretrain page-overlap --audits {params.audits:q} --protocols {params.protocols:q} --splits {params.splits:q}"
        " --near {params.near} --out {output:q} > {log:q} 2>&1"


def of_study(pattern):
    """`pattern` for all stored volumes that the study reads."""
    return [pattern.format(dataset=dataset, preprocess=preprocess) for dataset, preprocess in PLAN.preprocessed]


rule page_rejected:
    input:
        of_study(VOLUMES),
        # filtered.tsv is beside them
        corpora=expand(CORPUS, corpus=[corpus for corpus in PLAN.corpora if CONFIG.corpora[corpus].filters]),
    output:
        shown(FIGURES + "/rejected.html", CORPUS_SECTION, "rejected", shows="rejected volumes of all data sets"),
    log:
        STUDY + "/logs/page_rejected.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=of_study("{dataset}=" + VOLUMES),
    shell:
        "brainpretrain page-rejected --volumes {params.volumes:q} --data {params.data:q} --corpora {input.corpora:q}"
        " --out {output:q} > {log:q} 2>&1"


rule page_run_pretraining:
    input:
        PRETRAIN + "/run.json",
    output:
        shown(
            PRETRAIN_FIGURES + "/run.html",
            TRAINING_SECTION,
            "run_card",
            training="{pretext} on {corpus}, {backbone}",
            shows="run card",
        ),
    log:
        STUDY + "/logs/page_run_pretraining/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    shell:
        "brainpretrain page-run {input:q} --out {output:q} > {log:q} 2>&1"


# a rule made by `use rule` does not inherit `localrule`
localrules:
    page_run_finetuning,


use rule page_run_pretraining as page_run_finetuning with:
    input:
        f"{ARM}/fold{fold_name(0, CONFIG.study.seeds[0] if CONFIG.study.seeds else None)}/run.json",
    output:
        shown(
            ARM_FIGURES + "/run.html",
            TRAINING_SECTION,
            "run_card",
            lambda w: {"training": verbatim(arm_title(w)), "shows": "run card of fold 0"},
        ),
    log:
        STUDY + "/logs/page_run_finetuning/{task}/{backbone}/{init}/{recipe}/n{n_train}.log",
