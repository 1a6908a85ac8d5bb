"""Paths, wildcards, and helpers that rules of several stages use. No rule states a number of the method."""

from brainpretrain.plan.table_spec import read_fold_name

RESULTS = CONFIG.settings.results
DATA = f"{RESULTS}/data"
STUDY = f"{RESULTS}/{CONFIG.study_name}"
WORK = f"{RESULTS}/work"
INDEX = DATA + "/{dataset}/index.tsv"
STORED = DATA + "/{dataset}/{preprocess}"
VOLUMES = STORED + "/volumes.tsv"
FINGERPRINTS = STORED + "/fingerprints.npz"
RELEASE = RESULTS + "/weights/{release}/{backbone}"
CORPUS = STUDY + "/corpora/{corpus}/corpus.tsv"
OVERLAP = STUDY + "/corpora/{corpus}/overlap.tsv"
SUBJECTS = STUDY + "/splits/{task}/subjects.json"
OTHERS = STUDY + "/splits/{task}/{cohort}.json"
SPLIT = STUDY + "/splits/{task}/fold{fold}.json"
TASK_SOURCE = STUDY + "/splits/{task}/sources/{number}.json"
SOURCE_OVERLAP = STUDY + "/splits/{task}/sources/overlap.tsv"
PRETRAIN = STUDY + "/pretrain/{corpus}/{pretext}/{backbone}"
ARM = STUDY + "/finetune/{task}/{backbone}/{init}/{recipe}/n{n_train}"
FOLD = ARM + "/fold{fold}"
RATE = STUDY + "/learning_rates/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}.json"
TABLES = STUDY + "/tables"
FIGURES = STUDY + "/figures"

# a report sorts its sections by name
RESULTS_SECTION, CASES_SECTION, TRAINING_SECTION, CORPUS_SECTION, OVERLAP_SECTION = (
    "1 Results",
    "2 Cases",
    "3 Training",
    "4 Corpus",
    "5 Overlap and licences",
)


# the names of cohorts from other subsets or data sets
OTHER_COHORTS = "|".join(sorted({"ood", *(name for task in CONFIG.tasks.values() for name in task.others)}))


wildcard_constraints:
    dataset="[a-z0-9_]+",
    preprocess="[a-z0-9_]+",
    corpus="[a-z0-9_]+",
    pretext="[a-z0-9_]+",
    backbone="[a-z0-9_]+",
    task="[a-z0-9_]+",
    init=r"[a-z0-9_]+(-on-[a-z0-9_]+)?(--[a-z0-9_]+--n(\d+|all))*",
    release="[a-z0-9_]+",
    recipe="[a-z0-9_]+",
    n_train=r"\d+|all",
    fold=r"\d+(-seed\d+)?",
    cohort=f"val|test|{OTHER_COHORTS}",
    shard=r"\d{3}",
    table="|".join(PLAN.tables),


def as_json(spec, *wildcard_names):
    """A param: the JSON of a function of plan/specs.py, called with the values of these wildcards."""
    return lambda wildcards: specs.as_json(spec(CONFIG, *(wildcards[name] for name in wildcard_names)))


def per_attempt(amount, most=None):
    """A resource that grows with every attempt, up to attempt `most`."""
    return lambda wildcards, attempt: amount * min(attempt, most or attempt)


def option(flag, name):
    """A param: `flag` with the input `name`, or nothing if the job has no such input."""
    return lambda wildcards, input: [flag, input[name]] if input[name] else []


def verbatim(text):
    """Text of the config for a label of the report, where Snakemake would replace `{name}` by a wildcard: an invisible mark prevents it.

    Params need no mark: there, Snakemake expands strings, but not what a function returns.
    """
    return text.replace("{", "{\N{WORD JOINER}")


def shown(path, section, caption, labels=None, **words):
    """An output that the report shows in a section, with a caption of rules/report/; `labels`: a function of the wildcards."""
    return report(path, category=section, caption=f"report/{caption}.rst", labels=labels or words)


def data_root(wildcards):
    """Folder of the raw files of a data set. A resource, since data that moved are the same data."""
    return CONFIG.data_root(wildcards.dataset)


def of_corpus(pattern):
    """An input or param: `pattern` for every data set of the corpus."""

    def paths(wildcards):
        corpus = CONFIG.corpora[wildcards.corpus]
        return expand(pattern, dataset=corpus.datasets, preprocess=corpus.preprocess)

    return paths


def of_sources(pattern):
    """An input or param: `pattern` for every source of the task, if an arm of the study trains on them."""

    def paths(wildcards):
        task = CONFIG.tasks[wildcards.task]
        return [
            pattern.format(task=wildcards.task, number=number, dataset=task.sources[number].dataset, preprocess=task.preprocess)
            for number in PLAN.sources_of(wildcards.task)
        ]

    return paths


def split_of(wildcards):
    """The split of the fold of a training; its seeds have the same."""
    return SPLIT.format(task=wildcards.task, fold=read_fold_name(wildcards.fold)[0])


def cohort_volumes(wildcards):
    """Table of the stored volumes of the data set of a cohort."""
    return cohort_volumes_of(wildcards.task, wildcards.cohort)


def cohort_volumes_of(task, cohort):
    """As `cohort_volumes`, by the names of task and cohort."""
    entry = CONFIG.tasks[task]
    return VOLUMES.format(dataset=entry.dataset_of(cohort), preprocess=entry.preprocess)


def cohort_root(wildcards):
    """Raw files of a cohort, for labels and headers."""
    return CONFIG.data_root(CONFIG.tasks[wildcards.task].dataset_of(wildcards.cohort))


def subjects_of(task, cohort):
    """File with the subjects of a cohort; `val` is the part of the pool that a fold leaves."""
    return (SUBJECTS if cohort in ("val", "test") else OTHERS).format(task=task, cohort=cohort)
