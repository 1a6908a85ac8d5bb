"""What a study is made of: the corpora, who of them is scored too, the licences, and the sites of the cohorts."""

COMPOSITION = STUDY + "/tables/{corpus}_composition"
SITES = STUDY + "/tables/{table}_sites"

# (task, cohort) of everything that is scored, the file with its subjects, and the fingerprints of its data set
COHORTS = [
    (
        f"{task}:{cohort}",
        cohort_file(task, cohort),
        fingerprints_of(cohort_dataset_of(task, cohort), CONFIG.tasks[task].preprocess),
    )
    for task, cohort in sorted({(e.arm.task, e.cohort) for e in PLAN.evaluations})
]


rule fingerprint:
    input:
        STORED_VOLUMES,
    output:
        STORED + "/fingerprints.npz",
    log:
        RESULTS + "/logs/fingerprint/{dataset}/{preprocess}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    shell:
        "brainpretrain fingerprint --volumes {input:q} --out {output:q} > {log:q} 2>&1"


def corpus_fingerprints(wildcards):
    """Pairs (data set, fingerprints) of a corpus."""
    corpus = CONFIG.corpora[wildcards.corpus]
    return [(name, fingerprints_of(name, corpus.preprocess)) for name in corpus_datasets(corpus)]


def overlap_indexes(wildcards):
    """Pairs (data set, index) of a corpus and of the cohorts."""
    scored = {cohort_dataset_of(e.arm.task, e.cohort) for e in PLAN.evaluations}
    return [(name, f"{DATA}/{name}/index.tsv") for name in sorted({*corpus_datasets(CONFIG.corpora[wildcards.corpus]), *scored})]


rule overlap:
    input:
        corpus=STUDY + "/corpora/{corpus}/corpus.tsv",
        subjects=sorted({subjects for _, subjects, _ in COHORTS}),
        indexes=lambda w: [index for _, index in overlap_indexes(w)],
        fingerprints=lambda w: sorted({*(file for _, file in corpus_fingerprints(w)), *(file for *_, file in COHORTS)}),
    output:
        overlap=STUDY + "/corpora/{corpus}/overlap.tsv",
        pairs=STUDY + "/corpora/{corpus}/pairs.tsv",
    log:
        STUDY + "/logs/overlap/{corpus}.log",
    # no training waits for it, but it goes first, and no table is made without it: see docs/decisions.md
    priority: 100
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        cohorts=[f"{name}={subjects}" for name, subjects, _ in COHORTS],
        indexes=lambda w: [f"{name}={index}" for name, index in overlap_indexes(w)],
        fingerprints=lambda w: [f"{name}={file}" for name, file in corpus_fingerprints(w)],
        scored=[f"{name}={file}" for name, _, file in COHORTS],
        near=CONFIG.settings.near_copy,
        protocol=lambda w: CONFIG.corpora[w.corpus].protocol,
    shell:
        "brainpretrain overlap --corpus {input.corpus:q} --cohorts {params.cohorts:q} --indexes {params.indexes:q}"
        " --fingerprints {params.fingerprints:q} --cohort-fingerprints {params.scored:q} --near {params.near}"
        " --protocol {params.protocol} --out {output.overlap:q} --pairs {output.pairs:q} > {log:q} 2>&1"


rule page_overlap:
    input:
        overlaps=[f"{STUDY}/corpora/{corpus}/overlap.tsv" for corpus in PLAN.corpora],
        pairs=[f"{STUDY}/corpora/{corpus}/pairs.tsv" for corpus in PLAN.corpora],
        splits=[f"{STUDY}/splits/{task}/subjects.json" for task in PLAN.tasks],
    output:
        report(
            STUDY + "/figures/overlap.html",
            category=OVERLAP,
            labels={"shows": "who of a corpus is scored too"},
            caption="report/overlap.rst",
        ),
    log:
        STUDY + "/logs/page_overlap.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        audits=[f"{corpus}={STUDY}/corpora/{corpus}/overlap.tsv" for corpus in PLAN.corpora],
        protocols=[f"{corpus}={CONFIG.corpora[corpus].protocol}" for corpus in PLAN.corpora],
        splits=[f"{task}={STUDY}/splits/{task}/subjects.json" for task in PLAN.tasks],
        near=CONFIG.settings.near_copy,
    shell:
        "brainpretrain page-overlap --audits {params.audits:q} --protocols {params.protocols:q} --splits {params.splits:q}"
        " --near {params.near} --out {output:q} > {log:q} 2>&1"


def described(dataset):
    """Where to find what is known of a data set: its module, and the options of one's own data."""
    known = CONFIG.datasets.get(dataset)
    own = known is not None and known.module in brainpretrain.datasets.TEMPLATES
    return {"module": module(dataset), "options": known.options if own else {}}


rule composition:
    input:
        corpus=STUDY + "/corpora/{corpus}/corpus.tsv",
        volumes=lambda w: [table for _, table in corpus_volumes(w)],
    output:
        tsv=COMPOSITION + ".tsv",
        md=COMPOSITION + ".md",
        tex=COMPOSITION + ".tex",
        text=COMPOSITION + ".txt",
        html=report(
            COMPOSITION + ".html",
            category=CORPUS,
            labels={"shows": "counts of {corpus} by source"},
            caption="report/counts.rst",
        ),
    log:
        STUDY + "/logs/composition/{corpus}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        data=DATA,
        volumes=lambda w: [f"{name}={table}" for name, table in corpus_volumes(w)],
        modules=lambda w: as_json({name: described(name) for name in corpus_datasets(CONFIG.corpora[w.corpus])}),
    shell:
        "brainpretrain composition --corpus {input.corpus:q} --name {wildcards.corpus} --volumes {params.volumes:q}"
        " --data {params.data:q} --modules {params.modules:q} --out {output:q} > {log:q} 2>&1"


rule table1:
    input:
        [COMPOSITION.format(corpus=corpus) + ".html" for corpus in PLAN.corpora],


def licences_in_use():
    """By data set of the study: where it is described, and what it is used for."""
    uses = {name: {**described(name), "for": []} for name in PLAN.datasets}
    for corpus in PLAN.corpora:
        for name in corpus_datasets(CONFIG.corpora[corpus]):
            uses[name]["for"].append(f"pretraining ({corpus})")
    for task in PLAN.tasks:
        for name in PLAN.task_datasets(task):
            uses[name]["for"].append(f"task {task}")
    return uses


def releases_in_use():
    """By release of weights that the study starts from: licence, page and citation."""
    names = sorted({e.arm.init for e in PLAN.evaluations} & set(CONFIG.weights))
    return {name: CONFIG.weights[name].model_dump(mode="json", include={"licence", "page", "citation"}) for name in names}


rule licences:
    output:
        tsv=STUDY + "/licences.tsv",
        page=report(
            STUDY + "/figures/licences.html",
            category=OVERLAP,
            labels={"shows": "licences"},
            caption="report/licences.rst",
        ),
    log:
        STUDY + "/logs/licences.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        uses=as_json(licences_in_use()),
        releases=as_json(releases_in_use()),
    shell:
        "brainpretrain licences --uses {params.uses:q} --releases {params.releases:q} --out {output.tsv:q} --page {output.page:q}"
        " > {log:q} 2>&1"


def sites_column(table):
    """The column of a table whose out-of-distribution cohort is to be shown by site, or None."""
    columns = PLAN.tables[table].columns
    return next((c for c in columns if c.cohort == "ood" and CONFIG.tasks[c.task].ood.by_site), None)


def sites_spec(table):
    """The table of that column: the cohort, sites that training saw, sites that it did not see."""
    column = sites_column(table)
    parts = {"ood": "", "ood_seen": ", sites seen in training", "ood_unseen": ", other sites"}
    columns = [column.model_copy(update={"title": column.title + words, "cohort": cohort}) for cohort, words in parts.items()]
    spec = PLAN.tables[table]
    return spec.model_copy(update={"name": f"{table}_sites", "title": f"{spec.title}: by site", "columns": tuple(columns)})


def sites_inputs(wildcards):
    """Scores of that cohort, the sites of its subjects, and those of the task's pool."""
    task = sites_column(wildcards.table).task
    evaluations = PLAN.table_evaluations(PLAN.tables[wildcards.table])
    return {
        "scores": [f"{STUDY}/{e.path}/scores.tsv" for e in evaluations if (e.arm.task, e.cohort) == (task, "ood")],
        "index": f"{DATA}/{CONFIG.tasks[task].ood.dataset}/index.tsv",
        "task_index": f"{DATA}/{CONFIG.tasks[task].dataset}/index.tsv",
        "subjects": f"{STUDY}/splits/{task}/subjects.json",
    }


rule table_sites:
    input:
        unpack(sites_inputs),
        overlaps=lambda w: table_overlaps(w),
    output:
        tsv=SITES + ".tsv",
        md=SITES + ".md",
        tex=SITES + ".tex",
        text=SITES + ".txt",
        html=report(
            SITES + ".html",
            category=RESULTS_SECTION,
            labels={"table": "{table}", "shows": "Dice by site"},
            caption="report/sites.rst",
        ),
    log:
        STUDY + "/logs/table_sites/{table}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        spec=lambda w: as_json(sites_spec(w.table)),
        overlaps=lambda w, input: audits(w, input),
    shell:
        "brainpretrain table-sites --scores {input.scores:q} --spec {params.spec:q} --overlaps {params.overlaps:q} --index {input.index:q}"
        " --task-index {input.task_index:q} --subjects {input.subjects:q} --out {output:q} > {log:q} 2>&1"


def audit_targets(table):
    """The audits that belong to a table."""
    targets = {f"{STUDY}/figures/overlap.html", f"{STUDY}/figures/licences.html"}
    if sites_column(table):
        targets.add(SITES.format(table=table) + ".html")
    corpora = {e.arm.pretraining.corpus for e in PLAN.table_evaluations(PLAN.tables[table]) if e.arm.pretraining}
    return targets | {COMPOSITION.format(corpus=corpus) + ".html" for corpus in corpora}
