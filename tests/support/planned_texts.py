"""Prints what becomes of the text of a study's config in the jobs of the workflow, as JSON.

python tests/support/planned_texts.py STUDY KEY=VALUE ...        (in the root of the repository)

jobs      [params and resources of every job, as text]
labels    [labels in the report of every output that it shows]
expanded  {rule: strings of params, messages and labels that Snakemake expands, as the rule has them}
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.io import get_flag_value, is_callable
from snakemake.report import expand_labels
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

TARGETS = {"all", "overlays", "table1", "download_all"}


def strings(value: Any) -> list[str]:
    """The strings in a value that are no functions."""
    if is_callable(value):
        return []
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    return (
        [value]
        if isinstance(value, str)
        else [text for part in value for text in strings(part)]
        if isinstance(value, list)
        else []
    )


def labels_of(rule: Any) -> list[Any]:
    """The labels that a rule gives its outputs in the report."""
    marks = [get_flag_value(output, "report") for output in rule.output]
    return [mark.labels for mark in marks if mark and mark.labels]


async def shown(job: Any) -> list[dict[str, str]]:
    """The labels of a job's outputs as the report shows them."""
    return [await expand_labels(labels, job.wildcards, job) for labels in labels_of(job.rule)]


def main(study: str, settings: list[str]) -> dict[str, Any]:
    config = ConfigSettings(config={"study": study, **dict(text.split("=", 1) for text in settings)})
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        logging.disable(logging.CRITICAL)
        plan = api.workflow(ResourceSettings(cores=1), config, snakefile=Path("Snakefile"))
        dag_api = plan.dag(DAGSettings(targets=TARGETS))
        workflow = plan._workflow
        workflow.dag_settings = dag_api.dag_settings
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        jobs = sorted(workflow.dag.jobs, key=str)
        return {
            "jobs": [[str(value) for _, value in [*job.params._allitems(), *job.resources.items()]] for job in jobs],
            "labels": [labels for job in jobs for labels in asyncio.run(shown(job))],
            "expanded": {rule.name: strings([list(rule.params), rule.message or "", labels_of(rule)]) for rule in workflow.rules},
        }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2:])))
