"""The paper's whole study on the test cluster, with empty work: what planning, submitting and polling cost at that size.

    python tests/slurm/scale.py FOLDER [--until shard]

The command `brainpretrain` is replaced by one that only makes the declared outputs; the index has a row for each of the paper's
volumes. Snakemake, the profile, the plugin, Slurm and the launcher are the real ones. Prints what was measured.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from cluster import Cluster

ROOT = Path(__file__).parents[2]

EMPTY_WORK = '''#!{python} -S
"""Makes the outputs of a step and does no work."""
import json, sys
from pathlib import Path

ROWS = {rows}
step, options = sys.argv[1], dict(zip(sys.argv[2:], sys.argv[3:]))
out = Path(options["--out"])
FILES = {{
    "pretrain": "encoder.safetensors encoder.json log.csv run.json config.yaml reconstruction.npz".split(),
    "finetune": "model.safetensors model.json transfer.tsv log.csv run.json config.yaml".split(),
    "predict": [],
}}
if step == "table":
    name = json.loads(options["--spec"])["name"]
    stems = [name + part for part in ("", "_labels", "_metrics", "_ranks")]
    FILES["table"] = [f"{{stem}}.{{kind}}" for stem in stems for kind in "tsv md tex txt html svg png".split()]
if step in FILES:
    out.mkdir(parents=True, exist_ok=True)
    for file in FILES[step]:
        (out / file).write_text("empty work\\n")
elif step == "fetch":
    out.write_text(json.dumps({{"dataset": options["--dataset"], "root": str(Path(options["--root"]).absolute())}}))
elif step == "index":
    columns = "volume subject session sequence subset site path label channel source_bytes".split()
    lines = ["\\t".join(f"{{column}}{{n}}" for column in columns) for n in range(ROWS.get(options["--dataset"], 0))]
    out.write_text("\\n".join(["\\t".join(columns), *lines]) + "\\n")
else:
    outputs, place = [], ""
    for word in sys.argv[2:]:
        place = word if word.startswith("--") else place
        outputs += [word] if place in ("--out", "--pairs", "--page") and word != place else []
    for file in outputs:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("empty work\\n")
'''


def make(folder: Path) -> dict[str, str]:
    """The study's folder and the replaced commands; returns the variables that they need."""
    sys.path.insert(0, str(ROOT / "src"))
    from brainpretrain import config, datasets, plan

    for name in ("config", "rules", "slurm", "envs", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    names = plan.make(config.load(ROOT / "config")).datasets
    rows = {name: (datasets.load(name).expected or {}).get("volumes", 0) for name in names}
    commands = folder / "bin"
    commands.mkdir()
    (commands / "brainpretrain").write_text(EMPTY_WORK.format(python=sys.executable, rows=rows))
    (commands / "squeue").write_text(f'#!/bin/sh\necho "$@" >> {folder}/polls.txt\nexec {folder}/cluster/bin/squeue "$@"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    print(f"index: {sum(rows.values())} rows in {len(rows)} data sets")
    return {"PYTHONPATH": str(ROOT / "src")}


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
