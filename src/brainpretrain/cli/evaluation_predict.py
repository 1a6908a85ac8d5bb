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
        help="a case: one file, or for a model of several sequences its files, joined by commas in the model's order"),
    arg("--model", type=Path, required=True, metavar="DIR", help="folder of model.safetensors and model.json (or that file)"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <image>_dseg.nii.gz"),
    arg("--bids", action="store_true", help="write a BIDS derivative dataset; the images need BIDS names"),
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
    if args.threads:
        torch.set_num_threads(args.threads)
    if not torch.cuda.is_available():
        allocator.keep_buffers()
    cases = [[Path(word)] if Path(word).exists() else [Path(part) for part in word.split(",")] for word in args.images]
    window = {key: getattr(args, key) for key in ("overlap", "weights", "batch", "mirror")}
    model = args.model if args.model.is_file() else args.model / "model"
    images.predict_images(
        model, cases, args.out, window,
        as_bids=args.bids, force=args.force, device=args.device, tell=lambda line: print(line, flush=True),
    )  # fmt: skip


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
