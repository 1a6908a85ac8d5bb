"""What a newcomer types, from a folder of labelled volumes to a table, a report and a prediction, with the seconds of each step.

`make newcomer FOLDER=<folder> [MINUTES=5]`, in a clone of the repository. The study is called `newcomer` and stays afterwards.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from brainpretrain.download.check import survey

STUDY = "newcomer"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", default="5")
    args = parser.parse_args()
    results = Path("results") / STUDY
    image = first_image(args.folder)
    steps = {
        "init": ["init", "--data", str(args.folder), "--name", STUDY, "--minutes", args.minutes, "--force"],
        "plan": ["plan", STUDY],
        "run": ["run", STUDY],
        "watch": ["watch", STUDY, "--once"],
        "run again": ["run", STUDY],
    }
    for name, words in steps.items():
        if not step(name, words):
            return 1
    model = sorted(results.glob("finetune/*/*/*/*/n*/fold*/model.safetensors"))[0].parent
    if not step("predict", ["predict", str(image), "--model", str(model), "--out", str(results / "predicted")]):
        return 1
    report = results / "report.html"
    print(f"report: {report.stat().st_size / 1e6:.1f} MB; table: {results / 'tables' / (STUDY + '.txt')}")
    return 0


def step(name: str, words: list[str]) -> bool:
    began = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "brainpretrain.cli", *words]).returncode
    print(f"=== {name}: {time.perf_counter() - began:.0f} s, exit code {code}", flush=True)
    return code == 0


def first_image(folder: Path) -> Path:
    """The first labelled image of the folder."""
    seen = survey(folder)
    return seen.root / next(row["path"] for row in seen.files.rows if row["label"])


if __name__ == "__main__":
    sys.exit(main())
