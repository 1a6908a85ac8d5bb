"""Times this project and other programs: every program in a process of its own, on one core, in interleaved rounds.

A program under test is a *party*: a Python file that offers tasks (`serve`), run by an interpreter that has its
packages. The parties stay alive and take turns in random order, so a machine that slows down slows all of them. The figure
is CPU time of the process (`process_time`): other work on the machine hardly changes it. Standard library only, since parties run
in environments of their own.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
_ANSWER = "answer: "  # prefix of a party's answers; other lines are output of libraries
_PEAK_RESET = "/proc/self/clear_refs"  # "5" written to it resets VmHWM
NOT_MEASURED = "not measured"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR", "BLOSC")}


class Missing(Exception):
    """A party cannot run here; the text says why."""


class Party:
    """A running party.

    Args:
        script: its file.
        arguments: JSON values for it.
        python: interpreter of its environment.
        core: where it runs.

    Raises:
        Missing: no such interpreter, or the party stops before it is ready.
    """

    def __init__(self, script: Path, arguments: Mapping[str, Any], python: Path | str = sys.executable, core: int = 0) -> None:
        if not Path(python).exists():
            raise Missing(f"{python} does not exist")
        self.process = subprocess.Popen(
            [str(python), str(script), json.dumps(arguments), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        self.name = self._answer()["ready"]

    def __call__(self, task: str, **arguments: Any) -> Any:
        """Runs a task and returns what it returns."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([task, arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()["result"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
            sys.stderr.write(line)  # what a library prints
        self.close()
        raise Missing(f"the process ended with code {self.process.returncode}; its message is above")

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


class Peer(NamedTuple):
    """A program to compare with: a script in this folder, its name until it reports its own, and its own arguments."""

    script: str
    name: str
    newest: bool = False  # it runs in the environment of the newest versions
    given: Mapping[str, Any] = {}


def rates(core: int, kinds: Sequence[str] = ("read", "multiply")) -> dict[str, float]:
    """Highest rates of a core: tasks of party_floors.py, in bytes or operations per second."""
    party = Party(Path(__file__).parent / "party_floors.py", {}, core=core)
    found = {kind: party(kind) for kind in kinds}
    party.close()
    return found


def serve(name: str, tasks: Mapping[str, Callable[..., Any]]) -> None:
    """Called at the end of a party's script: answers requests until there are no more."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {int(sys.argv[2])})
    print(_ANSWER + json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        task, arguments = json.loads(line)
        print(_ANSWER + json.dumps({"result": tasks[task](**arguments)}), flush=True)


def arguments() -> dict[str, Any]:
    """The arguments of the party."""
    return json.loads(sys.argv[1])


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def patch_box(number: int, shape: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    """A random box of a volume, at most as large as the volume; the place is relative, so it is the same on other grids."""
    rng = random.Random(number)
    starts = [int(rng.random() * (max(0, n - p) + 1)) for n, p in zip(shape, patch, strict=True)]
    return tuple(slice(start, min(start + p, n)) for start, p, n in zip(starts, patch, shape, strict=True))


def peak_memory(work: Callable[[], Any]) -> int | None:
    """Bytes of resident memory by which a fork of this process grows at its peak in a call; None if Linux's /proc is missing.

    The call is made twice and the second is measured. A fork starts without the pages of library files, so the first call
    would include megabytes of code that every process shares. Freed memory goes back to the system in between.

    Raises:
        RuntimeError: the call failed; its traceback is on stderr.
    """
    if not os.access(_PEAK_RESET, os.W_OK):
        return None
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            gc.collect()
            getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)
            Path(_PEAK_RESET).write_text("5")
            start = _memory("VmRSS")
            work()
            os.write(writer, str(_memory("VmHWM") - start).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # the fork must not go on as its parent does
    os.close(writer)
    with os.fdopen(reader) as stream:
        grown = stream.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the measured call failed; its message is above")
    return int(grown)


def _memory(field: str) -> int:
    """A field of /proc/self/status, in bytes; 0 if it is missing."""
    lines = [line.split() for line in _lines("/proc/self/status")]
    return next((1024 * int(words[1]) for words in lines if words[0] == f"{field}:"), 0)


def interleaved(
    columns: Mapping[str, Callable[[int], Sequence[float]]], rounds: int, seed: int = 0
) -> dict[str, list[list[float]]]:
    """The seconds that each column returned in each round; every round has a new random order.

    Args:
        columns: by name, a function of the number of the round that returns the seconds of each sample.
    """
    rng, found = random.Random(seed), {name: [] for name in columns}
    for number in range(rounds):
        for name in rng.sample(sorted(columns), len(columns)):
            found[name].append(list(columns[name](number)))
        print(
            f"round {number + 1} of {rounds}: " + ", ".join(f"{n} {1e3 * mean(v[-1]):.1f} ms" for n, v in found.items()),
            file=sys.stderr,
        )
    return found


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def summary(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Seconds per sample: each round's mean, their median, and mean and its standard error over all samples."""
    every = [value for values in rounds for value in values]
    error = statistics.stdev(every) / len(every) ** 0.5 if len(every) > 1 else float("nan")
    means = [*map(mean, rounds)]
    return {
        "rounds": means,
        "median_of_rounds": statistics.median(means),
        "mean": mean(every),
        "error": error,
        "samples": len(every),
    }


def facts() -> dict[str, str]:
    """Machine, date and commit; '+' after the commit if code or config differ from it."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    changed = _git("status", "--porcelain", "-uno", "--", "src", "bench", "config")
    return {
        "machine": f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, one used",
        "load": f"{os.getloadavg()[1]:.1f}",
        "date": datetime.date.today().isoformat(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        "python": platform.python_version(),
    }


def figure(identity: str, what: str, party: str, unit: str, rounds: Sequence[float]) -> dict[str, Any]:
    """A measured quantity of one party, for `write_results`; less is better.

    Args:
        identity: of the figure in docs/benchmarks.md, such as 'B4'.
        what: which quantity, of which input; with `identity` and `party` it names the figure in every run.
        rounds: a value per round, in `unit` ('s', 'bytes' ...); none if it was not measured.
    """
    median = statistics.median(rounds) if rounds else None
    return {"id": identity, "what": what, "party": party, "unit": unit, "rounds": list(rounds), "median": median}


def goal(
    identity: str, what: str, against: str, value: float | None, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    """A ratio of figures (or a difference) and what it should be; `value` None: not measured, `met` None too."""
    met = None if value is None else (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    wanted = {"at_least": at_least, "at_most": at_most}
    return {"id": identity, "what": what, "against": against, "value": value, "met": met} | wanted


def write_results(
    path: Path,
    facts: Mapping[str, str],
    figures: Sequence[Mapping[str, Any]],
    goals: Sequence[Mapping[str, Any]] = (),
    details: Mapping[str, Any] | None = None,
) -> None:
    """The JSON of a benchmark, of one form for all: name, machine, load, date, commit, figures, goals.

    Args:
        path: its file name is the benchmark's name.
        facts: as `facts()` gives them.
        figures: as `figure` gives them.
        goals: as `goal` gives them.
        details: what the tables of this benchmark show beyond that.
    """
    content = {"name": path.stem, **facts, "figures": list(figures), "goals": list(goals), "details": details or {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False).stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; all columns but the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_section(path: Path, name: str, text: str) -> None:
    """Replaces the part of a page between `<!-- name -->` and `<!-- end name -->`."""
    first, last = f"<!-- {name} -->", f"<!-- end {name} -->"
    page = path.read_text(encoding="utf-8")
    head, rest = page.split(first, 1)
    path.write_text(f"{head}{first}\n{text}\n{last}{rest.split(last, 1)[1]}", encoding="utf-8")
