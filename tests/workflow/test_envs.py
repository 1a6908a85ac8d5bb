"""Environments of conda and apptainer: the same pins as the lock, with files that exist.

Neither program is at hand in the tests; what was run by hand is in envs/README.md.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from helpers import ROOT

ENVS = ROOT / "envs"
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def test_the_lock_pins_every_package_and_what_the_project_asks_for():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in LOCK)
    asked = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    names = {re.split(r"[>\[]", name)[0].lower() for name in re.findall(r'"([^"]+)"', asked[1])}
    assert names <= {line.split("==")[0].lower() for line in LOCK}


def test_the_conda_environment_holds_the_pins_of_the_lock():
    """`make environment` makes it so. Snakemake copies the file away, so it can point to no other."""
    dependencies = yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"]
    assert dependencies[-1] == {"pip": LOCK}
    python = re.search(r"requires-python = \">=([\d.]+)\"", (ROOT / "pyproject.toml").read_text())[1]
    assert f"python={python}" in dependencies


def test_make_environment_changes_nothing_that_is_in_step(tmp_path):
    for name in ("Makefile", "requirements.lock"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "envs").mkdir()
    text = (ENVS / "environment.yaml").read_text()
    (tmp_path / "envs" / "environment.yaml").write_text(text.replace("torch==", "torch==0"))
    subprocess.run(["make", "--silent", "environment"], cwd=tmp_path, check=True)
    assert (tmp_path / "envs" / "environment.yaml").read_text() == text


def test_the_post_deploy_script_stands_where_snakemake_looks_and_knows_the_root(tmp_path):
    from snakemake.sourcecache import LocalSourceFile

    found = LocalSourceFile(str(ENVS / "environment.yaml")).replace_suffix([".yaml", ".yml"], ".post-deploy.sh")
    script = Path(found.get_path_or_uri(secret_free=True))
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "start in the root of the repository" in done.stderr


def test_the_container_is_made_of_files_that_exist_and_of_the_lock():
    text = (ENVS / "brainpretrain.def").read_text()
    files = re.search(r"%files\n(.*?)\n\n", text, re.DOTALL)[1].split()[::2]
    assert "requirements.lock" in files and all((ROOT / file).exists() for file in files)
    post = re.search(r"%post\n(.*?)\n\n", text, re.DOTALL)[1]
    makefile = (ROOT / "Makefile").read_text()
    for word in ("\"$(grep '^torch==' requirements.lock)\"", "-r requirements.lock", "--no-deps"):  # as in the Makefile
        assert word in post and word.replace("$(grep '^torch", "$$(grep '^torch") in makefile
    assert 'container: "envs/brainpretrain.sif"' in (ROOT / "Snakefile").read_text()
    assert text.startswith("# apptainer build envs/brainpretrain.sif envs/brainpretrain.def")
