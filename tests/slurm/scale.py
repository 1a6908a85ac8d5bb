"""The paper's whole study on the test cluster, with empty work: what planning, submitting and polling cost at that size.

    python tests/slurm/scale.py FOLDER [--until shard]

The command `brainpretrain` is replaced by `bench/empty_work.py`, which only makes the declared outputs; the index has a row for each of the paper's
volumes. Snakemake, the profile, the plugin, Slurm and the launcher are the real ones. Prints what was measured.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from cluster import Cluster

ROOT = Path(__file__).parents[2]


def make(folder: Path) -> dict[str, str]:
    """The study's folder and the replaced commands; returns the variables that they need."""
    sys.path.insert(0, str(ROOT / "src"))
    from brainpretrain import config, datasets
    from brainpretrain.plan import tables

    for name in ("config", "rules", "envs", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    profile = folder / "slurm" / "config.yaml"
    profile.write_text(profile.read_text().replace("your_account", "tests"))
    names = tables.make(config.load(ROOT / "config", {"study": "amaes"})).datasets
    rows = {name: (datasets.load(name).expected or {}).get("volumes", 0) for name in names}
    commands = folder / "bin"
    commands.mkdir()
    (commands / "brainpretrain").write_text(f'#!/bin/sh\nexec {sys.executable} -S {ROOT}/bench/empty_work.py "$@"\n')
    (commands / "squeue").write_text(f'#!/bin/sh\necho "$@" >> {folder}/polls.txt\nexec {folder}/cluster/bin/squeue "$@"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    print(f"index: {sum(rows.values())} rows in {len(rows)} data sets")
    return {"PYTHONPATH": str(ROOT / "src"), "EMPTY_WORK_ROWS": json.dumps(rows)}


def snakemake(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[float, float, str]:
    """Seconds, peak GiB over all calls so far, and what was said."""
    started = time.monotonic()
    log = folder / "run.log"
    with open(log, "w") as stream:
        code = subprocess.run(
            ["snakemake", "--profile", "slurm", *arguments], cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    assert code == 0, log.read_text()[-4000:]
    return time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, log.read_text()


def main(folder: Path, arguments: list[str]) -> None:
    folder.mkdir(parents=True)
    cluster = Cluster(folder / "cluster")
    variables = make(folder)
    path = f"{folder}/bin{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{cluster.environment['PATH']}"
    environment = os.environ | cluster.environment | variables | {"PATH": path}
    cluster.up()
    try:
        seconds, memory, said = snakemake(folder, environment, "-n", *arguments)
        total = next(line.split()[1] for line in said.splitlines() if line.startswith("total "))
        print(f"dry run: {total} jobs planned in {seconds:.1f} s, {memory:.2f} GiB", flush=True)
        seconds, memory, said = snakemake(folder, environment, *arguments)
        states = Counter(cluster.run("squeue", "--noheader", "--states=all", "--format=%T").split())
        polls = len((folder / "polls.txt").read_text().splitlines())
        print(f"run: {dict(states)} Slurm jobs, {seconds:.0f} s, Snakemake's peak {memory:.2f} GiB, {polls} calls of squeue")
        seconds, memory, said = snakemake(folder, environment, *arguments)
        assert "Nothing to be done" in said
        print(f"second call: nothing to be done, {seconds:.1f} s")
    finally:
        cluster.down()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
