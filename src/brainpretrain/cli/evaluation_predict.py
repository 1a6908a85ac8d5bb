"""Commands of the stage evaluation that predict."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from brainpretrain import config, datasets
from brainpretrain.cli.arguments import COHORT, DATASET, arg, cohort, command, mapping, progress
from brainpretrain.evaluation import cohort as cohorts
from brainpretrain.evaluation import images


def _mirror(text: str) -> list[str]:
    """Axes given as letters, such as xyz."""
    if text != "none" and (not text or set(text) - set("xyz") or len(set(text)) < len(text)):
        raise argparse.ArgumentTypeError("letters out of xyz, each once, or none")
    return [] if text == "none" else list(text)


@command(
    "predict",
    arg("images", nargs="+", metavar="IMAGE",
        help="a case: one file, or for a model of several sequences its files, joined by commas in the model's order"),
    arg("--model", type=Path, required=True, metavar="DIR", help="folder of model.safetensors and model.json (or that file)"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <image>_dseg.nii.gz"),
    arg("--bids", action="store_true", help="write a BIDS derivative dataset; the images need BIDS names"),
    arg("--force", action="store_true", help="replace segmentations that were made in another way"),
    arg("--overlap", type=float, metavar="SHARE", help="share of a patch that its neighbour sees too (as model.json says)"),
    arg("--weights", metavar="KIND", help="constant, or gaussian: a patch counts less far from its centre (as model.json says)"),
    arg("--mirror", type=_mirror, metavar="AXES", help="mean over flips along these, such as xyz, or none (as model.json says)"),
    arg("--batch", type=int, metavar="N", help="patches at a time: speed and memory (as model.json says)"),
    arg("--threads", type=int, metavar="N", help="CPU threads (all)"),
    arg("--device", metavar="NAME", help="cpu, cuda or cuda:<n> (a GPU, if there is one)"),
)  # fmt: skip
def predict(args: argparse.Namespace) -> None:
    """Images are brought to what model.json says (orientation, spacing, intensities, crop) or refused by name; labels are
    written on the grid of the image, with its header, beside a json that says how they were made.

    One bad image does not cost the others: failures are listed at the end, with exit code 2. What was made from the same
    images by the same model in the same way is kept, so the same command continues where it ended.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    cases = [[Path(word)] if Path(word).exists() else [Path(part) for part in word.split(",")] for word in args.images]
    window = {key: getattr(args, key) for key in ("overlap", "weights", "batch", "mirror")}
    model = args.model if args.model.is_file() else args.model / "model"
    images.predict_images(
        model, cases, args.out, window,
        as_bids=args.bids, force=args.force, device=args.device, tell=lambda line: print(line, flush=True),
    )  # fmt: skip


MODEL_FILE = arg("--model", type=Path, required=True, metavar="FILE", help="model.safetensors of a fine-tuning")


@command(
    "predict-cohort",
    MODEL_FILE,
    *COHORT,
    arg("--inference", type=mapping, required=True, metavar="JSON", help="sliding window: overlap, weights, batch, mirror"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for <case>.nii.gz"),
)  # fmt: skip
def predict_cohort(args: argparse.Namespace) -> None:
    """Sliding window on the stored volumes, logits resampled to the native grid, labels in the original header."""
    torch.set_num_threads(args.threads)
    cases, raw = cohort(args)
    window = config.inference(args.inference, "--inference")
    cohorts.predict_cohort(args.model, cases, raw, window, args.out, progress("case"))


@command(
    "bids",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="folder that `predict-cohort` wrote"),
    MODEL_FILE,
    *COHORT,
    DATASET,
    arg("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset"),
)  # fmt: skip
def bids(args: argparse.Namespace) -> None:
    """sub-<label>/[ses-<label>/]anat/sub-<label>_..._desc-pred_dseg.nii.gz, each with its json; a label is the subject's name
    without what BIDS does not allow.
    """
    cases, raw = cohort(args)
    source = {"URL": datasets.load(args.dataset).page}
    cohorts.as_derivatives(cases, args.predictions, args.model, raw, source, args.out)
    print(f"{len(cases)} segmentations in {args.out}")
