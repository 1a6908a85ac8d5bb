"""The command `brainpretrain`: one subcommand per step of the workflow, each usable by hand.

A command imports its own file when it is called, so `--help` imports nothing, and preprocessing starts without torch.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import shlex
import sys
from contextlib import suppress
from typing import Any

from brainpretrain.cli.arguments import REGISTERED
from brainpretrain.errors import UserError

# heading of `--help` -> command -> (file of this folder, one line of help)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "start here": {
        "datasets": ("download", "list the data sets with access, licence and counts, and what of them is in place"),
        "check": ("download", "say what a folder of volumes is understood to be"),
        "convert": ("download", "write NRRD, MetaImage, GIPL and MGZ volumes as NIfTI"),
        "params": ("training_params", "count parameters and operations of the networks, beside those of the published ones"),
        "plot-schedule": ("training_schedule", "draw the learning rates of recipes, before anything is trained"),
        "plot-augmentation": ("report_augmentation", "draw what each transform of an augmentation policy does"),
        "schema": ("report_status", "write the JSON schema of the config, for editors"),
        "status": ("report_status", "show what became of every training"),
        "tables": ("report", "make the tables of a study again, from its scores alone"),
        "predict": ("evaluation_predict", "segment any NIfTI files with a fine-tuned model"),
        "features": ("weights", "compute the feature maps of a volume"),
        "repair": ("preprocess", "make damaged or missing stored volumes anew, and nothing else"),
    },
    "download": {
        "download": ("download", "get a data set, check and unpack it, and convert DICOM"),
        "fetch": ("download", "see that a data set is in place, or say exactly what to do"),
        "index": ("download", "list the volumes of a data set, by file names alone"),
    },
    "preprocess": {
        "shard": ("preprocess", "preprocess one shard of a data set"),
        "volumes": ("preprocess", "join the tables of a data set's shards to the table of its stored volumes"),
    },
    "cohorts": {
        "split": ("cohorts", "split the subjects of a task into pool and test"),
        "ood": ("cohorts", "list the subjects of a task's out-of-distribution cohort"),
        "fold": ("cohorts", "put the pool into the order in which one fold draws training cases"),
        "corpus": ("cohorts", "choose the volumes of a pretraining"),
        "fingerprint": ("cohorts", "fingerprint the stored volumes of a data set, to find copies of them elsewhere"),
        "overlap": ("cohorts", "find subjects of a corpus that are also scored, by name and by image"),
    },
    "training": {
        "pretrain": ("training", "train an encoder without labels"),
        "finetune": ("training", "train a segmentation network on labelled cases"),
        "claim": ("training_claim", "run a command on GPUs that nothing else runs on"),
    },
    "weights": {
        "import": ("weights", "take over an encoder that was trained elsewhere"),
        "export": ("weights", "write an encoder for another program, or its model card"),
    },
    "evaluation": {
        "predict-cohort": ("evaluation_predict", "segment a cohort, in native space"),
        "bids": ("evaluation_predict", "write the predictions of a cohort as a BIDS derivative dataset"),
        "evaluate": ("evaluation", "score the predictions of a cohort, in native space"),
        "scores": ("evaluation", "join score tables"),
    },
    "report": {
        "table": ("report", "make a table of results"),
        "table-sites": (
            "report",
            "make a table of an out-of-distribution cohort, apart for sites that training saw and did not see",
        ),
        "composition": ("report", "count what a corpus is made of, beside the published counts"),
        "licences": ("report", "list the licences that a study works under, and what they forbid"),
        "plot-cases": ("report_figures", "draw every case from scratch to pretrained"),
        "plot-costs": ("report_figures", "draw what each arm of a table costs and what it brings"),
        "plot-budgets": ("report_figures", "draw the score over the number of labels"),
        "plot-loss": ("report_figures", "draw the curves of a training"),
        "plot-reconstructions": ("report_figures", "draw what a pretrained network makes of masked patches"),
        "plot-composition": ("report_figures", "draw what a corpus is made of"),
        "plot-overlays": ("report_overlays", "draw the worst, the median and the best case"),
        "overlay-cases": ("report_overlays", "store the worst, the median and the best case for the viewer"),
        "page-overlays": ("report_overlays", "make the page that shows stored cases in 3-D"),
        "page-rejected": ("report_pages", "list the volumes that preprocessing rejected"),
        "page-run": ("report_pages", "show a run.json as a page"),
        "page-overlap": ("report_pages", "show who of each corpus is scored too"),
    },
}


def _grouped() -> str:
    """The list of commands as `--help` prints it."""
    parts = []
    for group, commands in COMMANDS.items():
        heading = f"{group}:" if group == "start here" else f"steps of the workflow, {group}:"
        parts.append("\n".join([heading, *(f"  {name:22}{summary}" for name, (_, summary) in commands.items())]))
    return "\n\n".join(parts)


def parser(called: str = "") -> argparse.ArgumentParser:
    """The command line, with the arguments of the command that is called; nothing is imported for the others."""
    top = argparse.ArgumentParser(
        prog="brainpretrain",
        usage="brainpretrain [-h] COMMAND ...",
        description="Self-supervised pretraining and fine-tuning for brain-MRI segmentation.\n"
        "The workflow calls these commands; each also runs by hand, with the line its log shows.\n"
        "`brainpretrain COMMAND --help` explains one.\n\n" + _grouped(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="brainpretrain", help=argparse.SUPPRESS)
    for group in COMMANDS.values():
        for name, (file, summary) in group.items():
            if name != called:
                commands.add_parser(name)
                continue
            importlib.import_module(f"brainpretrain.cli.{file}")
            function, arguments = REGISTERED[name]
            description = f"{summary[0].upper()}{summary[1:]}.\n\n{inspect.getdoc(function)}"
            sub = commands.add_parser(name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
            for names, options in arguments:
                sub.add_argument(*names, **options)
            sub.set_defaults(function=function)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs a command. Exit codes: 0 done, 2 the user can correct it, 128 + signal saved and can go on, else a bug."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        called = next((word for word in argv if not word.startswith("-")), "")
        args = parser(called).parse_args(argv)
        if not sys.stdout.isatty() and not getattr(args, "json", False):  # what a program reads is JSON and nothing else
            print(f"$ brainpretrain {shlex.join(argv)}", flush=True)
        args.function(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        return _end_on_full_disk(error)
    return 0


def _end_on_full_disk(error: OSError) -> int:
    """Exit code after a write that no other place explains: to a log, or to where standard output goes."""
    from brainpretrain.files import FULL, full_disk

    if error.errno not in FULL:
        raise error
    path = error.filename or os.path.realpath("/proc/self/fd/1")
    with suppress(OSError):
        print(f"error: {full_disk(path, error.errno)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _silence(stream)
    return 2


def _silence(stream: Any) -> None:
    """What Python still has to write there at its end would raise once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
