"""Shared by the benchmark scripts: options, start of the parties, output of results."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from harness import NOT_MEASURED, ROOT, Missing, Party, Peer

HERE = Path(__file__).parent
SHARED = ROOT.parent / "shared" / "data"
OURS = "ours"


def parser(doc: str | None, name: str, rounds: int, parties: bool = True) -> argparse.ArgumentParser:
    """The options of every benchmark; `name` is that of its JSON and of its section in docs/benchmarks.md.

    `parties`: the benchmark starts parties on a core, and has options for that.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=SHARED, help="folder of real volumes; phantoms if there are none")
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", type=Path, default=ROOT / f"results/bench/{name}.json")
    made.add_argument("--page", type=Path, help=f"page with a section '{name}' to write the tables to")
    made.set_defaults(section=name)
    if parties:
        made.add_argument("--peers", type=Path, default=HERE / ".venv/bin/python", help="interpreter that has the peers")
        made.add_argument("--newest", type=Path, default=HERE / ".venv-newest/bin/python", help="that of their newest versions")
        made.add_argument("--core", type=int, default=0)
    return made


def open_parties(
    ours: str, peers: Mapping[str, Peer], given: Mapping[str, Any], args: argparse.Namespace
) -> tuple[dict[str, Party], dict[str, str]]:
    """Starts this project's script (`ours`) and the peers that can run, and prints why others cannot.

    Each gets a file of its own for results, `out`: <key>.npy in the folder `given["work"]`.

    Returns:
        The parties by key, the first of them `ours`; and a name for each key, also of missing parties.
    """
    parties, names = {}, {}
    for key, peer in {OURS: Peer(ours, "brainpretrain"), **peers}.items():
        python = sys.executable if key == OURS else args.newest if peer.newest else args.peers
        arguments = {**given, "out": str(Path(given["work"]) / f"{key}.npy"), **peer.given}
        names[key] = peer.name
        try:
            parties[key] = Party(HERE / peer.script, arguments, python, args.core)
        except Missing as reason:
            print(f"no {peer.name}: {reason}", file=sys.stderr)
        else:
            names[key] = peer.name if key == OURS else parties[key].name
    return parties, names


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
    heading = (
        f"`{facts['command']}`, {facts['machine']} (load {facts['load']}), {facts['date']}, commit {facts['commit']}.{inputs}"
    )
    text = "\n\n".join((heading, *tables))
    print(text)
    if args.page:
        harness.write_section(args.page, args.section, text)
