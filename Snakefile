"""Raw brain MRI to pretrained encoders, fine-tuned models and tables. See README.md."""

from snakemake.utils import min_version

min_version("9.20")

import gc

import brainpretrain.config
import brainpretrain.plan.tables
import brainpretrain.cohorts.splits
from brainpretrain.errors import UserError

# planning makes a million objects that all stay: to look through them again and again makes a dry run slower
gc.disable()

# settings may be given as `--config study=demo`; the YAML under config/ is read by the library, which runs no code from it
try:
    CONFIG = brainpretrain.config.load(f"{workflow.basedir}/config", config)
    PLAN = brainpretrain.plan.tables.make(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None


def landing():
    """The first page of a report, made when one is asked for; what it imports takes a third of a second."""
    import brainpretrain.report.landing

    return brainpretrain.report.landing.text(PLAN, STUDY)


config["landing"] = landing


report: "rules/report/workflow.rst"


# used with `--sdm apptainer` and built before, see envs/README.md
container: "envs/brainpretrain.sif"


onstart:
    gc.enable()
    refuse_second_copies()
    tell_moved_data()


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/preprocess.smk"
include: "rules/audit.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


try:
    refuse_what_splits_cannot_give()
except UserError as error:
    raise WorkflowError(str(error)) from None


rule all:
    default_target: True
    input:
        [table_targets(name) for name in PLAN.tables],
        STUDY + "/scores.tsv",
