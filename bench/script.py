"""What the benchmark scripts share: options, starting parties, and where results go."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from harness import ROOT, Missing, Party

HERE = Path(__file__).parent
SHARED = ROOT.parent / "shared" / "data"
NOT_MEASURED = "not measured"


def parser(doc: str | None, name: str, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark; `name` is that of its JSON and of its section in docs/benchmarks.md."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--peers", type=Path, default=HERE / ".venv/bin/python", help="interpreter that has the peers")
    made.add_argument("--data", type=Path, default=SHARED, help="folder of real volumes; phantoms if there are none")
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--core", type=int, default=0)
    made.add_argument("--json", type=Path, default=ROOT / f"results/bench/{name}.json")
    made.add_argument("--page", type=Path, help=f"page with a section '{name}' to write the tables to")
    return made


def parties(
    scripts: Mapping[str, tuple[str, Mapping[str, Any]]], peers: Path, core: int
) -> tuple[dict[str, Party], dict[str, str]]:
    """Starts the parties that can run, and says of the others why not.

    Args:
        scripts: key -> file in this folder and its arguments; `ours` runs in this interpreter.
        peers: interpreter of the others.

    Returns:
        The parties, and a name for each key, also of those that are missing.
    """
    found, names = {}, {}
    for key, (script, given) in scripts.items():
        python = sys.executable if key == "ours" else peers
        try:
            found[key] = Party(HERE / script, given, python=python, core=core)
            names[key] = "brainpretrain" if key == "ours" else found[key].name
        except Missing as reason:
            names[key] = key
            print(f"no {key}: {reason}", file=sys.stderr)
    return found, names


def geometric(values: Sequence[float]) -> float:
    """Geometric mean."""
    return math.exp(harness.mean([math.log(value) for value in values]))


def shown(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None else format(value, form)


def finish(
    args: argparse.Namespace,
    facts: dict[str, str],
    tables: Sequence[str],
    figures: Sequence[Mapping[str, Any]],
    goals: Sequence[Mapping[str, Any]],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Writes the JSON, and the section of the page; prints the section."""
    harness.write_results(args.json, facts, figures, goals, details)
    inputs = f" {facts['inputs']}." if facts.get("inputs") else ""
    said = f"`{facts['command']}`, {facts['machine']} (load {facts['load']}), {facts['date']}, commit {facts['commit']}.{inputs}"
    text = "\n\n".join((said, *tables))
    print(text)
    if args.page:
        harness.write_section(args.page, args.json.stem, text)
