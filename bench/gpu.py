"""Measures pretraining on this machine's GPU, in less than ten minutes: rate, augmentation, waiting for data, memory.

Every number comes from the training command itself (`training.pretrain.pretrain`): real stored volumes (phantoms), loader
processes, augmentation, mask, loss, optimiser. Each training has two epochs, and the first does not count. The floor is
the operations of the step over the rate at which the device multiplies large matrices.

    python bench/gpu.py --out results/gpu --page docs/results/gpu.md

`--device none` measures nothing and writes tables of the numbers that need no device.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness
from harness import NOT_MEASURED

BACKBONES = ["unet_b", "unet_xl", "mednext_m", "mednext_l", "swinunetr", "resenc_l", "unetr"]
EXECUTION = ["compile", "compile+channels_last", "channels_last", "checkpointing"]
# AMAES: 31 h with the light decoder on two H100, which makes 39.7 patches/s
PAPER = {"patch": 128, "volumes": 44308, "epochs": 100, "gpus": 2, "patches_per_s": 39.7}
SHARE = 0.05  # goal: a smaller share of the time for augmentation, and for waiting for data
FASTER = {"unet_xl": 2, "unet_b": 4}  # goal: the paper's rate per GPU times this
OUT_OF_MEMORY = "out of memory"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu", "none"], default="cuda")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="NAME")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 2], metavar="N", help="the first is measured longest")
    parser.add_argument("--max-batch", type=int, default=128, help="end of the search for the largest batch that fits")
    parser.add_argument("--patch", type=int, default=128, help="voxels per side")
    parser.add_argument("--execution", nargs="*", default=EXECUTION, metavar="A+B", help="execution options, joined by +")
    parser.add_argument("--steps", type=int, default=40, help="steps of an epoch of the first batch size")
    parser.add_argument("--short-steps", type=int, default=20, help="steps of an epoch of all else")
    parser.add_argument("--volumes", type=int, default=6, help="phantoms to make and store")
    parser.add_argument("--spacing-mm", type=float, nargs=2, default=[0.9, 1.2], help="of the phantoms, lowest and highest")
    parser.add_argument("--workers", type=int, default=8, help="loader processes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices of the floor")
    parser.add_argument("--minutes", type=float, default=9, help="nothing is begun after so many")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of gpu.json and gpu.md")
    parser.add_argument(
        "--json", type=Path, help="the same in the form of all benchmarks, for bench/summary.py and bench/compare.py"
    )
    parser.add_argument("--page", type=Path, help="a Markdown page whose part between the marks is replaced by the tables")
    return parser.parse_args(argv)


# --- what is measured


def jobs(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Trainings without and with execution options."""
    plain = {"batch": args.batches[0], "execution": [], "steps": args.steps}
    yield from ({"backbone": name, **plain} for name in args.backbones)
    short = plain | {"steps": args.short_steps}
    yield from ({"backbone": name, **short, "batch": batch} for batch in args.batches[1:] for name in args.backbones)
    options = [option.split("+") for option in args.execution]
    yield from ({"backbone": name, **short, "execution": option} for option in options for name in args.backbones)


def doubled(batch: int, most: int, fits: Callable[[int], bool]) -> None:
    """Tries twice the batch, twice that and so on, until one does not fit or is above `most`."""
    while (batch := 2 * batch) <= most and fits(batch):
        pass


class Bench:
    """Trainings on stored phantoms.

    Args:
        config: of the project.
        folder: of the phantoms, raw and stored; kept between runs.
    """

    def __init__(self, args: argparse.Namespace, config: Any, folder: Path) -> None:
        self.args, self.config, self.folder = args, config, folder
        self.corpus = stored_phantoms(config, folder, args.volumes, args.spacing_mm, max(1, args.workers))

    def measure(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The job with its results: patches_per_s, shares of the time in 0..1, peak_memory_gb; or with an `error`."""
        import torch

        from brainpretrain import memory

        try:
            found = self.train(**job)
        except (torch.OutOfMemoryError, memory.OutOfMemory):
            found = {"error": OUT_OF_MEMORY}
        except Exception as error:  # a network that fails must not lose the numbers of the others
            found = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
        print(json.dumps({**job, **found}), flush=True)
        return {**job, **found}

    def train(self, backbone: str, batch: int, execution: Sequence[str], steps: int) -> dict[str, Any]:
        """Two epochs of a pretraining; the second is measured."""
        import torch

        from brainpretrain import files
        from brainpretrain.training.log import read_log
        from brainpretrain.training.machine import Machine
        from brainpretrain.training.pretrain import pretrain

        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory(dir=self.folder) as place, stopwatch() as spans:
            work = Path(place)
            repeated = self.corpus.loc[self.corpus.index.repeat(-(-batch * steps // len(self.corpus)))]
            files.write_tsv(work / "corpus.tsv", repeated.head(batch * steps))
            machine = Machine(
                out=work / "out", work=work / "work", threads=self.args.threads, workers=self.args.workers,
                save_every=10**9, max_idle=1, execution=execution,
            )  # fmt: skip
            pretrain(work / "corpus.tsv", self.folder, self.run(backbone, batch), machine)
            row = read_log(work / "out" / "log.csv")[-1]
            augmented = sum(span() for span in spans[-steps:])
        seconds = steps * batch / float(row["patches_per_s"])
        return {
            "patches_per_s": float(row["patches_per_s"]),
            "augmentation": round(augmented / seconds, 4),
            "data_wait": float(row["data_wait"]),
            "peak_memory_gb": float(row["peak_memory_gb"]) if on_gpu else None,  # of a CPU process: also that of earlier jobs
        }

    def run(self, backbone: str, batch: int) -> Any:
        """The run of the catalogue, with another patch, batch and number of epochs."""
        from brainpretrain.config import runs
        from brainpretrain.plan import specs
        from brainpretrain.plan.runs import Pretraining

        pretraining = Pretraining("brains45k", pretext_of(self.config, backbone), backbone)
        run = specs.pretrain_run(self.config, pretraining).plain()
        phases = [
            run["recipe"]["phases"][0] | {"epochs": 2, "warmup_epochs": 0, "warmup_steps": 0}
        ]  # a step costs the same in a warm-up
        changes = {"patch_size": [self.args.patch] * 3, "global_batch": batch, "phases": phases}
        return runs.pretrain_run(run | {"seed": 0, "recipe": run["recipe"] | changes}, "benchmark")


def pretext_of(config: Any, backbone: str) -> str:
    """The pretext whose network is counted first for this backbone, see `counts.rows`: that of the paper's Table 4."""
    named = [network.pretext for network in config.backbones[backbone].expected if network.pretext]
    return named[0] if named else next(iter(config.pretexts))


def stored_phantoms(config: Any, folder: Path, volumes: int, spacing_mm: Sequence[float], workers: int) -> Any:
    """Makes phantoms, preprocesses and stores them as the workflow does, and returns the corpus of them."""
    import pandas as pd

    from brainpretrain import datasets
    from brainpretrain.cohorts.corpus import make_corpus
    from brainpretrain.download.fetch import fetch
    from brainpretrain.download.index import index
    from brainpretrain.preprocess import shards

    phantom, options = datasets.load("phantom"), config.datasets["phantom"].options
    options = options | {"subjects": 0, "unlabelled_subjects": volumes, "sequences": ["T1w"]}
    options["grid"] = options["grid"] | {"spacing_mm": list(spacing_mm)}
    fetch(phantom, folder / "raw", **options)
    stored = folder / "phantom"
    table = shards.build(index(phantom, folder / "raw"), folder / "raw", stored, config.stored_as("amaes"), 0, 1, workers)
    table = pd.DataFrame(table.assign(file="phantom/" + table["file"]))
    source = {"dataset": "phantom", "sequences": [], "subsets": [], "pool_of": None}
    return make_corpus({"phantom": table}, {"sources": [source], "val_fraction": 0}, {}, 0)


@contextmanager
def stopwatch() -> Iterator[list[Callable[[], float]]]:
    """A context in which each call that augments a batch adds a function to the list, which returns its seconds on the device."""
    from brainpretrain.training import modules

    spans: list[Callable[[], float]] = []
    plain = modules.Pretraining.augmented

    def timed(*args: Any, **options: Any) -> Any:
        start = mark()
        result = plain(*args, **options)
        spans.append(between(start, mark()))
        return result

    modules.Pretraining.augmented = timed
    try:
        yield spans
    finally:
        modules.Pretraining.augmented = plain


def mark() -> Any:
    """A point in time: in the GPU's own queue if there is one, so that the program does not wait for it."""
    import torch

    if not torch.cuda.is_available():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> Callable[[], float]:
    """Seconds between two marks; call it when the work is done."""
    return lambda: end - start if isinstance(start, float) else start.elapsed_time(end) / 1e3


def matrix_rate(side: int, seconds: float = 2) -> float:
    """Operations per second in products of square bf16 matrices."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def timed(times: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed(5)
    times = max(1, int(seconds / timed(5) * 5))
    return 2 * side**3 * times / timed(times)


# --- what is written


def tables(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    return "\n\n".join([_settings(results), _rates(results), _memory(results), _options(results)])


def _settings(results: Mapping[str, Any]) -> str:
    machine, rate = results["machine"], results["matrix_flops_per_s"]
    measured = f"{rate / 1e12:.4g} TFLOP/s" if rate else NOT_MEASURED
    where = (
        f"{machine['hardware']}, torch {machine['torch']}, {machine['started']}, commit `{machine['commit'][:9]}`"
        if machine
        else ""
    )
    return f"Machine: {where or NOT_MEASURED}. Products of bf16 matrices of {results['settings']['matrix']}²: {measured}."


def _rates(results: Mapping[str, Any]) -> str:
    batch, gpu_rate = results["settings"]["batches"][0], PAPER["patches_per_s"] / PAPER["gpus"]
    alike = results["settings"]["patch"] == PAPER["patch"]  # otherwise the paper's figures are of another task
    rows = []
    for entry in results["networks"]:
        row, floor = _find(results, entry, batch, []), _floor(results, entry)
        rate = row.get("patches_per_s")
        hours = PAPER["volumes"] * PAPER["epochs"] / rate / 3600 if rate and alike else None
        rows.append(
            [
                entry["backbone"],
                entry["pretext"],
                f"{entry['forward_gflop'] * 3e-3:.4g}",
                _number(row, "patches_per_s", "{:.4g}"),
                _text(floor, "{:.4g}"),
                _text(rate and floor and 100 * rate / floor, "{:.3g} %"),
                _number(row, "augmentation", "{:.1%}"),
                _number(row, "data_wait", "{:.1%}"),
                _text(rate / gpu_rate if rate and alike else None, "{:.3g}x"),
                _text(hours, "{:.3g}"),
            ]
        )
    header = [
        "network", "pretext", "TFLOP per patch and step", f"patches/s, batch {batch}", "floor, patches/s", "of the floor",
        "augmentation", "data wait", "to the paper's rate per GPU", "100 epochs at this rate, h",
    ]  # fmt: skip
    return harness.table(header, rows)


def _memory(results: Mapping[str, Any]) -> str:
    batches, rows = sorted(results["settings"]["batches"]), []
    for entry in results["networks"]:
        found = [_number(_find(results, entry, batch, []), "peak_memory_gb", "{:.3g}") for batch in batches]
        fitting = [row for row in _rows(results, entry, []) if row.get("peak_memory_gb")]
        largest = max(fitting, key=lambda row: row["batch"], default={})
        refused = any(row.get("error") == OUT_OF_MEMORY for row in _rows(results, entry, []))
        found += [_number(largest, "batch", "{}" if refused else "{} or more"), _number(largest, "peak_memory_gb", "{:.3g}")]
        rows.append([entry["backbone"], *found])
    header = ["peak memory in GiB", *(f"batch {batch}" for batch in batches), "largest batch (doubled)", "peak there"]
    return harness.table(header, rows)


def _options(results: Mapping[str, Any]) -> str:
    batch, options, rows = results["settings"]["batches"][0], results["settings"]["execution"], []
    for entry in results["networks"]:
        plain, cells = _find(results, entry, batch, []), []
        for option in options:
            row = _find(results, entry, batch, option.split("+"))
            ratio = "patches_per_s" in row and "patches_per_s" in plain and row["patches_per_s"] / plain["patches_per_s"]
            cells.append(_number(row, "patches_per_s", "{:.4g}") + (f" ({ratio:.2f}x)" if ratio else ""))
            cells.append(_number(row, "peak_memory_gb", "{:.3g}"))
        rows.append([entry["backbone"], *cells])
    header = [f"patches/s and peak GiB, batch {batch}", *(cell for option in options for cell in (option, "GiB"))]
    return harness.table(header, rows)


def goals(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Goals of each network at the first batch size, also of those that were not measured."""
    found, batch = [], results["settings"]["batches"][0]
    for entry in results["networks"]:
        row, name = _find(results, entry, batch, []), entry["backbone"]
        for key, what in (("augmentation", "augmentation share of a GPU step"), ("data_wait", "data-wait share")):
            found.append(harness.goal("B10", f"{what}, {name}", "the whole step", row.get(key), at_most=SHARE))
        if name in FASTER and results["settings"]["patch"] == PAPER["patch"]:
            rate = row.get("patches_per_s")
            ratio = rate and rate / (PAPER["patches_per_s"] / PAPER["gpus"])
            found.append(harness.goal("B10", f"patches per second and GPU, {name}", "the paper's", ratio, at_least=FASTER[name]))
    return found


def figures(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Seconds per patch of every training that was measured, without those that only tested whether a batch fits."""
    found = []
    for row in results["rows"]:
        if "patches_per_s" in row and row["batch"] in results["settings"]["batches"]:
            what = f"a patch, {row['backbone']}, batch {row['batch']}, {'+'.join(row['execution']) or 'plain'}"
            found.append(harness.figure("B10", what, "brainpretrain", "s", [1 / row["patches_per_s"]]))
    return found


def _rows(results: Mapping[str, Any], entry: Mapping[str, Any], execution: Sequence[str]) -> list[Mapping[str, Any]]:
    return [row for row in results["rows"] if row["backbone"] == entry["backbone"] and row["execution"] == list(execution)]


def _find(results: Mapping[str, Any], entry: Mapping[str, Any], batch: int, execution: Sequence[str]) -> Mapping[str, Any]:
    return next((row for row in _rows(results, entry, execution) if row["batch"] == batch), {})


def _floor(results: Mapping[str, Any], entry: Mapping[str, Any]) -> float | None:
    """Patches per second if the step ran at the rate of the matrix product; a step is three forward passes."""
    rate = results["matrix_flops_per_s"]
    return rate and rate / (3e9 * entry["forward_gflop"])


def _number(row: Mapping[str, Any], name: str, form: str) -> str:
    if "error" in row:
        return row["error"] if row["error"] == OUT_OF_MEMORY else "failed"
    return _text(row.get(name), form)


def _text(value: Any, form: str) -> str:
    return NOT_MEASURED if value is None else form.format(value)


def write(results: Mapping[str, Any], out: Path, page: Path | None) -> None:
    """gpu.json, gpu.md, and the part of a page between `<!-- tables -->` and `<!-- end tables -->`."""
    from brainpretrain import files

    files.write_json(out / "gpu.json", results)
    with files.atomic(out / "gpu.md") as temporary:
        temporary.write_text(tables(results) + "\n", encoding="utf-8")
    if page:
        harness.write_section(page, "tables", tables(results))


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    start = time.monotonic()
    if args.device != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks

    from brainpretrain import config, provenance
    from brainpretrain.training import counts

    loaded = config.load(harness.ROOT / "config")
    networks = []
    for name in args.backbones:
        method = pretext_of(loaded, name)
        gflop = counts.flops(loaded, name, method, None, [args.patch] * 3) / 1e9
        networks.append({"backbone": name, "pretext": method, "forward_gflop": round(gflop, 1 if gflop > 10 else 4)})
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "page", "json")}
    results: dict[str, Any] = {
        "settings": settings,
        "machine": None,
        "matrix_flops_per_s": None,
        "networks": networks,
        "rows": [],
    }
    if args.device != "none":
        import torch

        if args.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("error: torch sees no GPU\n  fix:   --device cpu, or --device none for the tables alone")
        results |= {"machine": provenance.facts(), "matrix_flops_per_s": matrix_rate(args.matrix)}
        try:
            fill(results, args, Bench(args, loaded, args.out.absolute() / "data"), start)
        finally:  # also if it is ended from outside
            keep(results, args)
    else:
        keep(results, args)
    print(tables(results))
    return int(any(row.get("error") not in (None, OUT_OF_MEMORY) for row in results["rows"]))


def keep(results: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Writes the results, the page and the JSON for the table of all benchmarks."""
    write(results, args.out, args.page)
    if args.json:
        facts = harness.facts() | ({"machine": results["machine"]["hardware"]} if results["machine"] else {})
        harness.write_results(args.json, facts, figures(results), goals(results))


def fill(results: dict[str, Any], args: argparse.Namespace, bench: Bench, start: float) -> None:
    """Measures job after job, the most important first, until time is up; writes all results after each."""

    def add(job: Mapping[str, Any]) -> bool:
        if time.monotonic() - start > 60 * args.minutes:
            return False
        results["rows"].append(bench.measure(job))
        write(results, args.out, None)
        return "error" not in results["rows"][-1]

    every = list(jobs(args))
    for job in every:
        if not job["execution"]:
            add(job)
    for name in args.backbones if args.device == "cuda" else []:  # the memory of a CPU cannot be exhausted without harm
        larger = {"backbone": name, "execution": [], "steps": 3}
        plain = _rows(results, {"backbone": name}, [])
        if fitted := [row["batch"] for row in plain if "error" not in row]:
            doubled(max(fitted), args.max_batch, lambda batch, larger=larger: add({**larger, "batch": batch}))
    for job in every:
        if job["execution"]:
            add(job)


if __name__ == "__main__":
    raise SystemExit(main())
