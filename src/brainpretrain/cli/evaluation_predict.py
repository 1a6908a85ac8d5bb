"""Commands of the stage evaluation that predict."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from brainpretrain import allocator, config, datasets
from brainpretrain.cli.arguments import DATASET, arg, command, mapping, progress
from brainpretrain.cli.evaluation_cohort import COHORT, cases_of
from brainpretrain.config.explaining import validate
from brainpretrain.config.sections import Degradation
from brainpretrain.errors import UserError
from brainpretrain.evaluation import cohort as cohorts
from brainpretrain.evaluation import images

MODEL_FILE = arg("--model", type=Path, required=True, metavar="FILE", help="model.safetensors of a fine-tuning")


def axes(text: str) -> list[str]:
    """Axes given as letters, such as xyz; none for 'none'."""
    if text != "none" and (not text or set(text) - set("xyz") or len(set(text)) < len(text)):
        raise argparse.ArgumentTypeError("give some of the letters x, y and z, each once, or none")
    return [] if text == "none" else list(text)


@command(
    "predict",
    arg("images", nargs="+", metavar="IMAGE",
        help="a case: one file, or for a model of several sequences its files, joined by commas in the model's order; or a folder"
        " of cases. Or, as a BIDS App: BIDS_DIR OUT participant"),
    arg("--model", type=Path, action="append", required=True, metavar="DIR",
        help="folder of model.safetensors and model.json (or that file); several, or a folder of fold0, fold1 ..., are averaged"),
    arg("--out", type=Path, metavar="DIR",
        help="folder of the segmentations: <image>_dseg.nii.gz, or <case>.nii.gz for nnU-Net's <case>_0000"),
    arg("--probabilities", action="store_true", help="also write <image>_label-<class>_probseg.nii.gz for every class"),
    arg("--bids", action="store_true", help="write a BIDS derivative dataset; the images need BIDS names"),
    arg("--participant-label", "--participant_label", nargs="+", default=[], metavar="LABEL",
        help="subjects of a BIDS folder (all)"),
    arg("--force", action="store_true", help="replace segmentations that were made with other images, models or settings"),
    arg("--overlap", type=float, metavar="SHARE", help="share of a patch that overlaps its neighbour (as model.json)"),
    arg("--weights", metavar="KIND", help="constant, or gaussian: lower weight far from the patch's centre (as model.json)"),
    arg("--mirror", type=axes, metavar="AXES", help="average over flips along these axes, such as xyz, or none (as model.json)"),
    arg("--batch", type=int, metavar="N", help="patches at a time, which affects speed and memory only (as model.json)"),
    arg("--threads", type=int, metavar="N", help="CPU threads (all)"),
    arg("--device", metavar="NAME", help="cpu, cuda or cuda:<n> (a GPU, if there is one)"),
)  # fmt: skip
def predict(args: argparse.Namespace) -> None:
    """Images are prepared as model.json says (orientation, spacing, intensities, crop) or refused with a reason. Labels are
    written on the grid of the image and with its header, next to a JSON file that says how they were made.

    A bad image does not stop the others: failures are listed at the end, with exit code 2. Segmentations of the same images by
    the same model with the same settings are kept, so the same command continues an interrupted one.
    """
    given, out, as_bids = _places(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if not torch.cuda.is_available():
        allocator.keep_buffers()
    window = {key: getattr(args, key) for key in ("overlap", "weights", "batch", "mirror")}
    images.predict_images(
        [model for folder in args.model for model in _models(folder)], given, out, window,
        as_bids=as_bids, force=args.force, device=args.device, tell=lambda line: print(line, flush=True),
        probabilities=args.probabilities, participants=args.participant_label,
    )  # fmt: skip


def _places(args: argparse.Namespace) -> tuple[list[str], Path, bool]:
    """The cases, the folder of the results, and whether they become a BIDS dataset.

    Raises:
        UserError: no folder is given for the results.
    """
    words = args.images
    if args.out is None and len(words) == 3 and words[2] == "participant":
        return [words[0]], Path(words[1]), True
    if args.out is None:
        fix = "add --out FOLDER, or write BIDS_DIR OUT participant"
        raise UserError("no folder is given for the segmentations", where="brainpretrain predict", fix=fix)
    return words, args.out, args.bids


def _models(folder: Path) -> list[Path]:
    """The models of a folder: its own, or those of its folders fold0, fold1 ..., as `load_model` takes them."""
    if folder.is_file():
        return [folder]
    folds = sorted(folder.glob("fold*/model.safetensors"))
    if folds and not (folder / "model.safetensors").exists():
        return [fold.with_suffix("") for fold in folds]
    return [folder / "model"]


@command(
    "predict-cohort",
    MODEL_FILE,
    *COHORT,
    arg("--inference", type=mapping, required=True, metavar="JSON", help="sliding window: overlap, weights, batch, mirror"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <case>.nii.gz"),
)  # fmt: skip
def predict_cohort(args: argparse.Namespace) -> None:
    """Applies the sliding window to the stored volumes, resamples the logits to the native grid and writes labels with the
    header of the original image. `degrade` in --task makes the images worse first (docs/cohorts.md).
    """
    torch.set_num_threads(args.threads)
    if not torch.cuda.is_available():
        allocator.keep_buffers()
    window = config.inference(args.inference, "--inference")
    how = args.task.get("degrade")
    worse = validate(Degradation, how, "--task: degrade") if how else None
    cohorts.predict_cohort(args.model, cases_of(args), args.root, window, args.out, progress("case"), worse)


@command(
    "bids",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="output folder of `predict-cohort`"),
    MODEL_FILE,
    *COHORT,
    DATASET,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset"),
)  # fmt: skip
def bids(args: argparse.Namespace) -> None:
    """Writes sub-<label>/[ses-<label>/]anat/sub-<label>_..._desc-pred_dseg.nii.gz, each with its JSON file. A label is the
    subject's name without the characters that BIDS does not allow.
    """
    cases = cases_of(args)
    source = {"URL": datasets.load(args.dataset).page}
    cohorts.as_derivatives(cases, args.predictions, args.model, args.root, source, args.out)
    print(f"{len(cases)} segmentations in {args.out}")
