"""The command `brainpretrain`: a command for each step of the workflow, and commands for users.

A command's file is imported when the command is called: `--help` imports none of them, and preprocessing starts without torch.
"""

from __future__ import annotations

import argparse
import gc
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
        "init": ("plan_init", "write a study for a folder of labelled volumes, with a reason for every value"),
        "plan": ("plan", "show what a study still has to do: jobs, hours, disk, missing data"),
        "config": ("plan", "check the files of config/ and plan every study, without running anything"),
        "run": ("plan", "run a study, or one target of it, and make its report"),
        "datasets": (
            "download_datasets",
            "list the data sets with access, licence, counts, and whether their files are in place",
        ),
        "encoders": (
            "download_encoders",
            "list the published encoders: network, licence, corpus, and whether the file is at hand",
        ),
        "zoo": ("zoo", "write a study of all encoders at hand against scratch, on labelled data of your own"),
        "check": ("download_check", "recognise the data set in a folder of volumes"),
        "convert": ("download_convert", "convert NRRD, MetaImage, GIPL and MGZ volumes to NIfTI"),
        "params": ("training_params", "count parameters and operations of the networks, next to the published numbers"),
        "plot-schedule": ("training_schedule", "draw the learning rates of recipes, before anything is trained"),
        "plot-augmentation": ("report_augmentation", "draw the effect of each transform of an augmentation policy"),
        "plot-pretext": ("report_pretext", "draw what a pretext makes of a volume"),
        "schema": ("report_status", "write the JSON schema of the config, for editors"),
        "watch": ("report_watch", "watch a whole study on one screen or one page, while it runs"),
        "status": ("report_status", "show the state of every training"),
        "tables": ("report", "make the tables of a study from its scores"),
        "power": ("report_power", "show which differences a study can see, before it runs"),
        "predict": ("evaluation_predict", "segment NIfTI files with a fine-tuned model"),
        "features": ("weights", "compute the feature maps of a volume"),
        "parity": ("parity", "compare this project's methods with the recorded figures of the authors' programs"),
        "repair": ("preprocess", "restore damaged or missing stored volumes, and nothing else"),
    },
    "download": {
        "download": ("download", "download a data set, check and unpack it, and convert DICOM"),
        "fetch": ("download", "check that a data set is in place, or explain how to get it"),
        "index": ("download", "list the volumes of a data set from their file names"),
    },
    "preprocess": {
        "shard": ("preprocess", "preprocess one shard of a data set"),
        "volumes": ("preprocess", "join the tables of a data set's shards into the table of its stored volumes"),
    },
    "cohorts": {
        "split": ("cohorts", "split the subjects of a task into pool and test"),
        "ood": ("cohorts", "list the subjects of a cohort from another subset or data set"),
        "source": ("cohorts_sources", "list the subjects of a further data set that trains the networks of a task"),
        "fold": ("cohorts", "order the pool as one fold draws its training cases"),
        "corpus": ("cohorts", "choose the volumes of a pretraining"),
        "fingerprint": ("cohorts_overlap", "fingerprint the stored volumes of a data set, to find copies of them elsewhere"),
        "overlap": ("cohorts_overlap", "find subjects of a corpus, or of sources, that are also scored, by name and by image"),
    },
    "training": {
        "pretrain": ("training", "train an encoder without labels"),
        "finetune": ("training", "train a segmentation network on labelled cases"),
        "claim": ("training_claim", "run a command on free GPUs"),
    },
    "weights": {
        "import": ("weights", "import an encoder that was trained elsewhere"),
        "export": ("weights_export", "write an encoder for another program, or its model card"),
    },
    "evaluation": {
        "predict-cohort": ("evaluation_predict", "segment a cohort, in native space"),
        "external": ("evaluation_external", "take over the segmentations that another program made of a cohort"),
        "bids": ("evaluation_predict", "write the predictions of a cohort as a BIDS derivative dataset"),
        "evaluate": ("evaluation", "score the predictions of a cohort, in native space"),
        "scores": ("evaluation", "join score tables"),
        "compare-encoders": ("evaluation_features", "compare the encoders of an arm before and after fine-tuning"),
        "choose-rate": ("evaluation", "choose the learning rate of an arm by its scores on validation cases"),
    },
    "report": {
        "table": ("report", "make a table of results"),
        "table-sites": (
            "report",
            "make a table of cohorts of other data sets, split into sites seen and not seen in training",
        ),
        "table-trainings": ("report_training", "show whether trainings have converged, and their chosen learning rates"),
        "table-encoders": ("report_encoders", "show how far fine-tuning moved the features of each encoder"),
        "composition": ("report_corpus", "count the parts of a corpus, next to the published counts"),
        "licences": ("report_corpus", "list the licences that apply to a study, and what they forbid"),
        "plot-cases": ("report_figures", "draw the scores of every case, from scratch and pretrained"),
        "plot-costs": ("report_figures", "draw cost and score of each arm of a table"),
        "plot-budgets": ("report_figures", "draw the score over the number of labels"),
        "plot-robustness": ("report_figures", "draw the score over the strength of degradations"),
        "plot-loss": ("report_training", "draw the curves of a training"),
        "plot-validation": ("report_training", "draw the validations of the fine-tunings of a table"),
        "plot-reconstructions": ("report_training", "draw how a pretrained network reconstructs masked patches"),
        "plot-alignments": ("report_corpus", "draw volumes that were brought onto the grid of another one"),
        "plot-composition": ("report_corpus", "draw the composition of a corpus"),
        "plot-overlays": ("report_overlays", "draw the worst, the median and the best case of an arm"),
        "overlay-cases": ("report_overlays", "store the worst, the median and the best case for the viewer"),
        "page-overlays": ("report_overlays", "make the page that shows stored cases in 3-D"),
        "page-rejected": ("report_corpus", "list the volumes that preprocessing rejected"),
        "page-zoo": (
            "report_zoo",
            "show which published encoder helps, by how much, at what cost, under which licence",
        ),
        "page-run": ("report_training", "show the run.json of a training as a page"),
        "page-overlap": ("report_corpus", "show the subjects that are both in a corpus and scored"),
    },
}


WRAPPERS = ("run",)  # commands that give what follows `--` to another program


def parser(called: str = "") -> argparse.ArgumentParser:
    """The command line: the names of all commands, and the arguments of the one that is called, whose file is imported."""
    top = argparse.ArgumentParser(
        prog="brainpretrain",
        usage="brainpretrain [-h] COMMAND ...",
        description=_description(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="brainpretrain", help=argparse.SUPPRESS)
    for name, (file, summary) in {name: line for group in COMMANDS.values() for name, line in group.items()}.items():
        sub = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == called:
            _import(file)
            function, arguments = REGISTERED[name]
            sub.description = f"{summary[0].upper()}{summary[1:]}.\n\n{inspect.getdoc(function)}"
            for names, options in arguments:
                sub.add_argument(*names, **options)
            sub.set_defaults(function=function)
    return top


def _import(file: str) -> None:
    """Imports a file of commands. What imports make stays, so garbage is not looked for among it, now or later.

    A training starts in two thirds of the time, since the collector would walk over a million objects again and again.
    """
    name, collecting = f"brainpretrain.cli.{file}", gc.isenabled()
    if name in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module(name)
        gc.freeze()
    finally:
        if collecting:
            gc.enable()


def _description() -> str:
    """What `--help` shows above the options: the commands by group."""
    parts = [
        "Self-supervised pretraining and fine-tuning for brain-MRI segmentation.\n"
        "The workflow calls these commands; each also runs by hand, with the line that its log shows.\n"
        "`brainpretrain COMMAND --help` explains one of them."
    ]
    for group, commands in COMMANDS.items():
        heading = group if group == "start here" else f"steps of the workflow, {group}"
        parts.append("\n".join([f"{heading}:", *(f"  {name:22}{summary}" for name, (_, summary) in commands.items())]))
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 2: an error that the user can correct. 128 + signal: stopped by the signal; progress is saved, and the same command
    continues. Anything else is a bug.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        called = next((word for word in argv if not word.startswith("-")), "")
        own, after = (
            (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if called in WRAPPERS and "--" in argv else (argv, [])
        )
        args = parser(called).parse_args(own, argparse.Namespace(after=after))
        if not sys.stdout.isatty() and not getattr(args, "json", False):  # a program that reads JSON gets nothing else
            line = os.fsencode(shlex.join(argv)).decode("utf-8", "backslashreplace")  # a file name may not be UTF-8
            print(f"$ brainpretrain {line}", flush=True)
        args.function(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _silence(sys.stdout)
    except PermissionError as error:
        if not error.filename:
            raise
        from brainpretrain.files import not_permitted

        print(f"error: {not_permitted(error.filename)}", file=sys.stderr)
        return 2
    except OSError as error:
        return _end_on_full_disk(error)
    return 0


def _end_on_full_disk(error: OSError) -> int:
    """Prints the error of a full disk and returns the exit code; raises any other error again.

    Only writes to a log or to standard output end here: `files.atomic` explains its own.
    """
    from brainpretrain.files import FULL, full_disk  # only after an error

    if error.errno not in FULL:
        raise error
    path = error.filename or os.path.realpath("/proc/self/fd/1")
    with suppress(OSError):
        print(f"error: {full_disk(path, error.errno)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _silence(stream)
    return 2


def _silence(stream: Any) -> None:
    """Sends the rest of a stream to nowhere: Python flushes it at exit, which would raise the same error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
