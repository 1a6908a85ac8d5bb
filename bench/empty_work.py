"""A replacement of the command `brainpretrain` that makes the outputs of a step and does no work.

Used by bench/scheduling.py and tests/slurm/scale.py, which put it on the path as `brainpretrain`. The variable
EMPTY_WORK_ROWS may hold the number of rows of each index, as JSON.
"""

import itertools
import json
import os
import sys

FILES = {
    "pretrain": ["encoder.safetensors", "encoder.json", "log.csv", "run.json", "config.yaml", "reconstruction.npz"],
    "finetune": ["model.safetensors", "model.json", "transfer.tsv", "log.csv", "run.json", "config.yaml"],
    "predict-cohort": [],
}
COLUMNS = ["volume", "subject", "session", "sequence", "subset", "site", "path", "label", "channel", "source_bytes"]


def main(words: list[str]) -> None:
    step, options = words[0], dict(itertools.pairwise(words))
    if step == "claim":  # what it would start
        return main(words[words.index("--") + 2 :])
    out = options["--out"]
    if step == "table":
        name = json.loads(options["--spec"])["name"]
        stems = [name + part for part in ("", "_labels", "_metrics", "_ranks")]
        FILES["table"] = [f"{stem}.{kind}" for stem in stems for kind in ["tsv", "md", "tex", "txt", "html", "svg", "png"]]
    if step in FILES:
        os.makedirs(out, exist_ok=True)
        write({f"{out}/{file}": "empty work\n" for file in FILES[step]})
    elif step == "fetch":
        write({out: json.dumps({"dataset": options["--dataset"], "root": os.path.abspath(options["--root"])})})
    elif step == "index":
        rows = json.loads(os.environ.get("EMPTY_WORK_ROWS", "{}")).get(options["--dataset"], 0)
        lines = ["\t".join(f"{column}{n}" for column in COLUMNS) for n in range(rows)]
        write({out: "\n".join(["\t".join(COLUMNS), *lines]) + "\n"})
    else:
        outputs, place = [], ""
        for word in words[1:]:
            place = word if word.startswith("--") else place
            outputs += [word] if place in ("--out", "--pairs", "--page") and word != place else []
        write(dict.fromkeys(outputs, "empty work\n"))


def write(files: dict[str, str]) -> None:
    for path, text in files.items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)


main(sys.argv[1:])
