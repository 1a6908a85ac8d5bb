"""Raw brain MRI to pretrained encoders, fine-tuned models and tables. See README.md; the rules: rules/README.md."""

from snakemake.exceptions import ApiError
from snakemake.utils import min_version

min_version("9.20")

import gc

from pathlib import Path

from brainpretrain.cohorts import revision
from brainpretrain.config import Config, freezing, load
from brainpretrain.errors import UserError
from brainpretrain.plan import specs, tables

# planning makes a million objects, all of which stay: looking for garbage among them makes a dry run slower
gc.disable()


class Refused(ApiError):
    """Something that a user can correct. Snakemake shows the message alone, since there is no traceback in which it looks for a rule."""

    __traceback__ = property(lambda self: None, lambda self, value: None)


# settings may be given as `--config study=demo`; the library reads the YAML under config/, and runs no code from it.
# A job of a batch system, which parses this file on its node, reads the files as they were when it was submitted.
try:
    _folder, _settings = Path(workflow.basedir) / "config", config
    if not workflow.is_main_process:
        _folder, _settings = freezing.kept(config.get("submitted", ""))
    CONFIG = load(_folder, _settings)
    SUBMITTED = freezing.files_of(_folder, CONFIG.settings.study, _settings)
    PLAN = tables.make(CONFIG)
    CONFIG = PLAN.config  # also has the recipes that a grid of learning rates stands for
except UserError as error:
    raise Refused(str(error)) from None
if workflow.is_main_process:
    workflow.config_settings.config_args = [*workflow.config_settings.config_args, f"submitted={freezing.key_of(SUBMITTED)}"]


def landing():
    """The first page of a report. Imported when a report is made, since the import takes a third of a second."""
    import brainpretrain.report.landing

    return brainpretrain.report.landing.text(PLAN, STUDY)


config["landing"] = landing


report: "rules/report/workflow.rst"


# used with `--sdm apptainer` and built before, see envs/README.md
container: "envs/brainpretrain.sif"


# each file uses names of the files above it only
include: "rules/common.smk"
include: "rules/startup.smk"


if workflow.is_main_process:
    use_site()
    say_what_it_needs()


include: "rules/download.smk"
include: "rules/preprocess.smk"
include: "rules/cohorts.smk"
include: "rules/weights.smk"
include: "rules/training.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/figures.smk"


if workflow.is_main_process:
    say_protocol()
    refuse_placeholders()
    refuse_what_cannot_work()


onstart:
    gc.enable()
    end_on_hangup()
    refuse_second_copies()
    refuse_precisions_of_gpus()
    freezing.keep(SUBMITTED)
    warn_of_moved_data()


def table_targets(name):
    """A table, its audits, and the figures of the runs behind it."""
    table = PLAN.tables[name]
    targets = {f"{TABLES}/{name}.html", f"{FIGURES}/{name}_cases.png", f"{FIGURES}/{name}_costs.html"}
    targets |= {f"{FIGURES}/{page}.html" for page in ("rejected", "overlap", "licences")}
    targets |= {f"{FIGURES}/alignments/{dataset}/{recipe}.png" for dataset, recipe in PLAN.aligned}
    if specs.sites_columns(PLAN, name):
        targets.add(f"{TABLES}/{name}_sites.html")
    if specs.grids(PLAN, name):
        targets.add(f"{TABLES}/{name}_trainings.html")
    if name in ZOO_TABLES:
        targets.add(f"{FIGURES}/zoo.html")
    if any(row.watched for row in table.rows):
        targets.add(f"{FIGURES}/{name}_validation.svg")
    if specs.has_encoders(PLAN, name):
        targets.add(f"{TABLES}/{name}_encoders.html")
    if table.has_budgets():
        targets.add(f"{FIGURES}/{name}_budgets.html")
    if table.has_degraded():
        targets.add(f"{FIGURES}/{name}_robustness.svg")
    for evaluation in PLAN.table_scored(table):
        if not CONFIG.tasks[evaluation.arm.task].degradation_of(evaluation.cohort):  # of images that no file shows
            targets.add(f"{FIGURES}/{evaluation.arm.path}/{evaluation.cohort}.png")
    for evaluation in PLAN.table_evaluations(table):
        targets |= {f"{FIGURES}/{evaluation.arm.path}/{figure}" for figure in ("loss.svg", "run.html")}
    for pretraining in PLAN.table_pretrainings(table):
        targets |= {f"{FIGURES}/corpora/{pretraining.corpus}.png", f"{TABLES}/{pretraining.corpus}_composition.html"}
        targets |= {f"{FIGURES}/{pretraining.path}/{figure}" for figure in ("loss.svg", "reconstruction.png", "run.html")}
        targets.add(f"{STUDY}/{pretraining.path}/card.md")
    return sorted(targets)


rule all:
    default_target: True
    input:
        [table_targets(name) for name in PLAN.tables],
        STUDY + "/scores.tsv",


for _table in PLAN.tables:
    if workflow.is_rule(_table):
        raise Refused(f"a table cannot be called '{_table}', which is a step of the workflow: choose another name")

    # `snakemake table4` builds one table of the study and all that it needs
    rule:
        name:
            _table
        input:
            table_targets(_table),
