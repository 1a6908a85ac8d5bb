"""Prints the params of all jobs of some studies, byte for byte as Snakemake stores them: a changed text runs the job again.

    python tests/support/planned_params.py STUDY [STUDY ...]        (in the root of the repository)

For each study: a checksum of the params of every job, by its first output, and the params themselves of the first job of every rule.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

TARGETS = {"all", "overlays"}


def planned(study: str, folder: str) -> dict[str, Any]:
    """The jobs of a study planned from nothing, so that no result of an earlier run hides one."""
    config = ConfigSettings(config={"study": study, "results": folder})
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        logging.disable(logging.CRITICAL)
        plan = api.workflow(ResourceSettings(cores=1), config, snakefile=Path("Snakefile"))
        dag_api = plan.dag(DAGSettings(targets=TARGETS))
        workflow = plan._workflow
        workflow.dag_settings = dag_api.dag_settings
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        checksums, examples, shown = {}, {}, set()
        for job in sorted((job for job in workflow.dag.jobs if job.output), key=lambda job: str(job.output[0])):
            params = [text.replace(folder, "results") for text in workflow.persistence._params(job)]
            output = str(job.output[0]).replace(folder, "results")
            checksums[output] = hashlib.sha256(json.dumps(params).encode()).hexdigest()[:16]
            if params and job.rule.name not in shown:
                shown.add(job.rule.name)
                examples[output] = params
        return {"jobs": checksums, "examples": examples}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as results:
        print(json.dumps({study: planned(study, results) for study in sys.argv[1:]}, indent=1, sort_keys=True))
