"""The rules as Snakemake reads them: their names, logs, environments and the order of their files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from brainpretrain import config, datasets
from brainpretrain.cohorts import splits
from brainpretrain.plan import specs, tables
from brainpretrain.plan.runs import Plan
from helpers import ROOT

PROFILES = ("local", "workstation", "slurm")


@pytest.fixture(scope="module")
def rules() -> dict[str, dict]:
    """All rules of the study `amaes`."""
    line = [sys.executable, "tests/support/listed_rules.py"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def jobs(rules) -> dict[str, dict]:
    """The rules that run something; the others are targets."""
    found = {name: rule for name, rule in rules.items() if rule["shell"]}
    assert len(found) > 30
    return found


def test_a_rule_has_the_name_of_its_command_and_a_suffix_if_two_share_one(jobs):
    commands = {name: re.search(r"\bbrainpretrain ([a-z-]+)", rule["shell"])[1].replace("-", "_") for name, rule in jobs.items()}
    for name, command in commands.items():
        assert name == command or name.startswith(f"{command}_"), f"rule {name} runs {command}"
    once = [name for name in commands if list(commands.values()).count(commands[name]) == 1]
    suffixed = {name for name in once if name != commands[name]}
    assert suffixed == {"export_card"}  # `export` has other formats, too


def test_a_rule_logs_below_its_name(jobs):
    for name, rule in jobs.items():
        (log,) = rule["log"]
        assert f"/logs/{name}/" in log or log.endswith(f"/logs/{name}.log"), name


def test_every_rule_that_runs_something_declares_the_environment(jobs):
    assert {rule["conda"] for rule in jobs.values()} == {"../envs/environment.yaml"}
    assert (ROOT / "rules" / "../envs/environment.yaml").exists()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_names_rules_that_exist(rules, profile):
    """Snakemake ignores settings of an unknown rule in silence."""
    content = yaml.safe_load((ROOT / profile / "config.yaml").read_text())
    names = {*content.get("set-resources", {}), *content.get("set-threads", {})}
    assert {"pretrain", "finetune", "predict_cohort"} <= names <= set(rules)


def test_targets_that_users_type_are_there(rules):
    targets = {"all", "download_all", "download_wmh", "table1", "table4", "overlays", "fetch", "index", "shard", "scores"}
    assert targets <= set(rules)


def test_a_file_of_rules_uses_no_name_of_a_file_below_it():
    files = [ROOT / path for path in re.findall(r'^include: "(.*)"$', (ROOT / "Snakefile").read_text(), re.MULTILINE)]
    assert sorted(files) == sorted((ROOT / "rules").glob("*.smk"))
    for above, below in pairwise(files):
        names = re.findall(r"^(?:def (\w+)|(\w+) =)", below.read_text(), re.MULTILINE)
        for name in filter(None, (first or second for first, second in names)):
            for path in files[: files.index(above) + 1]:
                assert not re.search(rf"(?<!\.)\b{name}\b(?!=)", path.read_text()), f"{path.name} uses {name} of {below.name}"


def test_the_library_has_every_function_that_rules_use():
    """No type checker reads the rules."""
    modules = {"specs": specs, "tables": tables, "splits": splits, "datasets": datasets, "Config": config.Config}
    text = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])
    names = set(re.findall(rf"(?<![/.])\b({'|'.join(modules)})\.(\w+)", text))
    assert len(names) > 15
    assert [f"{module}.{name}" for module, name in sorted(names) if not hasattr(modules[module], name)] == []
    plan, loaded = set(re.findall(r"\bPLAN\.(\w+)", text)), set(re.findall(r"\bCONFIG\.(\w+)", text))
    fields = {*Plan.__dataclass_fields__, *config.Config.model_fields}
    assert {name for name in plan | loaded if not hasattr(Plan, name) and not hasattr(config.Config, name)} <= fields
