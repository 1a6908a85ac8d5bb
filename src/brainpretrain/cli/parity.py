"""The command `parity`. It has its own file, since it imports torch and every method."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain import parity as fixtures
from brainpretrain.cli.arguments import arg, command
from brainpretrain.errors import UserError


@command("parity", arg("folder", type=Path, metavar="FOLDER", help="folder of fixtures (JSON)"))
def parity(args: argparse.Namespace) -> None:
    """Runs every fixture of a folder through this project's code, and prints a line for each group of figures: its worst
    deviation, the tolerance, and how many figures it has. For draws, a deviation of 1 is what chance allows.

    A fixture is a JSON file with a method in words, inputs by formula, and expected figures (docs/pretexts.md). Ends with an
    error if a figure is off, or if no file of the folder is a fixture of a known kind.
    """
    off, groups, unknown = [], 0, []
    for path in fixtures.fixtures(args.folder):
        found = fixtures.lines(path)
        if found is None:
            unknown.append(path.name)
            continue
        print(f"{path.name}", flush=True)
        for line in found:
            groups += 1
            state = "ok " if line.passes else "OFF"
            print(f"  {state} {line.deviation:9.2e} of {line.tolerance:7.1e}  {line.group} ({line.figures})", flush=True)
            off += [] if line.passes else [f"{path.name}: {line.group}"]
    if unknown:
        print(f"not run, since no method here reads files of their kind: {', '.join(unknown)}")
    if not groups:
        raise UserError("no fixture of a known kind", where=args.folder, fix=f"kinds: {', '.join(fixtures.kinds())}")
    if off:
        problem = "\n  ".join([f"{len(off)} of {groups} groups of figures are off:", *off])
        raise UserError(problem, where=args.folder, fix="compare the method with the words of the fixture")
    print(f"{groups} groups of figures agree")
