"""Prints the rules of the workflow as JSON: shell command, log and environment by name. In the root of the repository."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

if __name__ == "__main__":
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        logging.disable(logging.CRITICAL)
        plan = api.workflow(ResourceSettings(cores=1), ConfigSettings(config={"study": "amaes"}), snakefile=Path("Snakefile"))
        plan.dag()
        rules = {
            rule.name: {"shell": rule.shellcmd, "log": [str(path) for path in rule.log], "conda": rule.conda_env}
            for rule in plan._workflow.rules
        }
        print(json.dumps(rules))
