"""What a trained result differs by between processors: a short study, trained with each setting of tests/processors.py.

    python bench/other_processors.py [--folder results/processors] [SETTING ...]

The study is the demo with 60 steps of pretraining and 100 of fine-tuning (--steps), one fold, scored on five phantoms. Its
volumes are prepared once, with the processor as it is; then each setting pretrains, fine-tunes from scratch and from its own
encoder, predicts and scores in a study of its own. "as it is" is trained twice. Prints a table in Markdown, and writes all its
figures as JSON into the folder. Without AVX512, bfloat16 is emulated and several times slower: --precision 32-true.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from brainpretrain.files import read_json, read_tsv, sha256
from brainpretrain.training.log import read_curves
from harness import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from processors import SETTINGS

AGAIN = "as it is, again"
ALL = {"as it is": {}, AGAIN: {}, **SETTINGS}
PRETRAINING = "pretrain/phantom_unlabelled/amaes_demo/unet_tiny"
ARMS = {arm: f"finetune/phantom_tissue/unet_tiny/{init}/demo/n3/fold0"
        for arm, init in (("scratch", "scratch"), ("pretrained", "amaes_demo-on-phantom_unlabelled"))}  # fmt: skip


def trained(setting: str, folder: Path, steps: list[int], precision: str | None) -> Path:
    """The results of the study, trained with a setting; precision None: that of the demo."""
    name = re.sub(r"\W+", "_", setting.lower())
    study = yaml.safe_load((ROOT / "config/studies/demo.yaml").read_text(encoding="utf-8")) | {"folds": 1}
    study["pretexts"]["amaes_demo"]["phases"] = [{"steps": steps[0], "warmup_steps": 6, "lr": 3e-3, "decay": "cosine"}]
    study["pretexts"]["amaes_demo"]["val_every_epochs"] = 10
    study["finetune"]["demo"]["phases"] = [{"steps": steps[1], "lr": 5e-3, "decay": "cosine"}]
    for recipe in (study["pretexts"]["amaes_demo"], study["finetune"]["demo"]) if precision else ():
        recipe["precision"] = precision
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    threads = ALL[setting].get("OMP_NUM_THREADS", "1")
    line = [
        *("snakemake", "--profile", "local", "--cores", threads, "--config", f"study={folder / name}.yaml", f"results={folder}"),
        *("--set-threads", *(f"{rule}={threads}" for rule in ("pretrain", "finetune", "predict_cohort"))),
    ]
    prepared = [f"{folder}/data/phantom/coarse_3mm/volumes.tsv"]
    own = dict(ALL[setting])
    if "PYTHONPATH" in own and os.environ.get("PYTHONPATH"):
        own["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    for targets, changes in ((prepared, {}), ([f"{folder / name}/scores.tsv"], own)):
        env = os.environ | {"OMP_NUM_THREADS": "1"} | changes
        done = subprocess.run([*line, "--", *targets], cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{setting}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    return folder / name


def figures(study: Path) -> dict[str, Any]:
    """Losses at the first and last logged step, checksums of the weights, and Dice by case and label."""
    found: dict[str, Any] = {}
    for name, place, weights in (("pretraining", PRETRAINING, "encoder"), *((arm, at, "model") for arm, at in ARMS.items())):
        losses = read_curves(study / place / "log.csv")["loss"].dropna()
        found[name] = {"losses": [float(x) for x in losses], "sha256": sha256(study / place / f"{weights}.safetensors")}
    scores = read_tsv(study / "scores.tsv", numbers=["dice"])
    for arm in ARMS:
        chosen = scores[scores["init"] == ("scratch" if arm == "scratch" else "amaes_demo-on-phantom_unlabelled")]
        found[arm]["dice"] = {f"{row.volume} {row.label}": row.dice for row in chosen.itertuples()}
        found[arm]["mean"] = float(chosen.groupby("label")["dice"].mean().mean())
    found["hardware"] = read_json(study / PRETRAINING / "run.json")["hardware"]
    return found


def line_of(setting: str, own: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """A row of the table: how far a setting is from the processor as it is."""

    def relative(name: str, which: int) -> str:
        mine, theirs = own[name]["losses"][which], base[name]["losses"][which]
        return f"{abs(mine / theirs - 1):.0e}" if mine != theirs else "0"

    same = all(own[name]["sha256"] == base[name]["sha256"] for name in ("pretraining", *ARMS))
    cells = [setting, "the same bits" if same else "other bits"]
    cells += [f"{relative(name, 0)}, {relative(name, -1)}" for name in ("pretraining", *ARMS)]
    for arm in ARMS:
        by_case = max(abs(own[arm]["dice"][key] - base[arm]["dice"][key]) for key in base[arm]["dice"])
        cells.append(f"{100 * own[arm]['mean']:.2f} ({100 * (own[arm]['mean'] - base[arm]['mean']):+.2f}; {100 * by_case:.1f})")
    gain = 100 * (own["pretrained"]["mean"] - own["scratch"]["mean"])
    return [*cells, f"{gain:+.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "results/processors")
    parser.add_argument("--steps", type=int, nargs=2, default=[60, 100], metavar="N", help="of pretraining and fine-tuning")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], help="of both (by default that of the demo)")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"some of: {'; '.join(ALL)}")
    args = parser.parse_args()
    if unknown := set(args.settings) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {'; '.join(ALL)}")
    found = {
        name: figures(trained(name, args.folder.absolute(), args.steps, args.precision))
        for name in dict.fromkeys(["as it is", *(args.settings or ALL)])
    }
    header = ["setting", "weights", *(f"loss, {name}: first, last" for name in ("pretraining", *ARMS)),
              *(f"Dice, {arm} (difference; largest by case and label)" for arm in ARMS), "gain"]  # fmt: skip
    rows = [header, ["---"] * len(header), *(line_of(name, own, found["as it is"]) for name, own in found.items())]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    (args.folder / "processors.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"{found['as it is']['hardware']}\n\n{text}")


if __name__ == "__main__":
    main()
