"""The command that takes over segmentations of another program."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import arg, command, mapping, progress
from brainpretrain.cli.evaluation_cohort import COHORT, cases_of
from brainpretrain.evaluation.external import ingest, remarks


@command(
    "external",
    arg("--folder", type=Path, required=True, metavar="DIR", help="segmentations of the other program, NIfTI"),
    arg("--files", default="**/*", metavar="PATTERN", help="the files of the folder that count"),
    arg("--values", type=mapping, required=True, metavar="JSON",
        help="title; labels: class to values in the files; background: values that are no class; others: refuse or background"),
    *COHORT,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <case>.nii.gz"),
)  # fmt: skip
def external(args: argparse.Namespace) -> None:
    """Writes the segmentations of a cohort on the grids of its images, with the label values of the task, and external.json,
    which says which file each is from and what was done with its grid.

    Files are found by the names of the cases in their names or folders. Nothing is written if a case has no file or several,
    if a file does not cover its image, or if it holds a value that nothing names.
    """
    labels, values = args.task["labels"], args.values
    content = ingest(cases_of(args), args.root, args.folder, args.files, values, labels, args.out, progress("case"))
    print("\n".join(remarks(content)))
