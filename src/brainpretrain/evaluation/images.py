"""Segmentation of whole volumes in native space: of a cohort of the workflow, or of any NIfTI files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from brainpretrain import decoders, memory, provenance
from brainpretrain.cohorts.cases import Case
from brainpretrain.errors import UserError
from brainpretrain.evaluation import bids, inference
from brainpretrain.files import atomic, read_json, sha256, write_json
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.preprocess.geometry import Geometry, to_ras
from brainpretrain.weights import store as weights

Progress = Callable[[int, int], None]

# what model.json must say before anything can be predicted
_FACTS = {
    "": ("name", "backbone", "in_channels", "task", "recipe", "preprocess"),
    "backbone": ("architecture", "options", "decoder", "decoder_options"),
    "task": ("sequences", "labels"),
    "recipe": ("patch_size", "precision"),
    "preprocess": volumes.RECIPE_KEYS,
}


def load_model(path: Path, device: str | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A fine-tuned network in evaluation mode, and its facts (task, recipe, classes ...).

    Args:
        path: `model.safetensors`, with `model.json` beside it.
        device: such as `cpu` or `cuda:1`; without it, the GPU if there is one.

    Raises:
        UserError: a file is missing or incomplete, tensors and json do not belong together, or there is no such device.
    """
    if not (Path(path).is_file() or Path(path).with_suffix(".safetensors").exists()):
        encoder = Path(path).with_name("encoder.safetensors").exists()
        fix = "fine-tune it first: this is an encoder" if encoder else "give the folder that `brainpretrain finetune` wrote"
        raise UserError("there is no model.safetensors", where=Path(path).parent, fix=fix)
    tensors, facts = weights.load(path)
    _check_facts(facts, Path(path).with_suffix(".json"))
    labels = facts["task"]["labels"]  # JSON is written with sorted keys, which is no order of classes
    facts["task"]["labels"] = {name: labels[name] for name in facts.get("classes", labels)}
    network = decoders.build_network(facts["backbone"], facts["in_channels"], len(facts["task"]["labels"]) + 1)
    _fill(network, tensors, Path(path).with_suffix(".safetensors"))
    return network.eval().to(_device(device)), facts


def class_values(labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Value written to a label file for each class: 0, then the first value of each entry of the task."""
    return np.array([0, *(values[0] for values in labels.values())], np.uint16)


@torch.inference_mode()
def predict_native(
    network: torch.nn.Module, facts: Mapping[str, Any], image: np.ndarray, geometry: Geometry, window: Mapping[str, Any]
) -> np.ndarray:
    """Label values on the native grid.

    Args:
        image: stored image (c, x, y, z) in [0, 1].
        geometry: how it was made from the native grid.
        window: overlap, weights, batch and mirror of the sliding window.

    Raises:
        UserError: the network gives NaN or Inf.
    """
    device = next(network.parameters()).device
    tensor = torch.from_numpy(image.astype(np.float32))[None].to(device)
    mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(facts["recipe"]["precision"])
    with torch.autocast(device.type, mixed, enabled=mixed is not None and (device.type == "cuda" or mixed is torch.bfloat16)):
        (logits,) = inference.sliding_window(
            network,
            tensor,
            facts["recipe"]["patch_size"],
            window["overlap"],
            window["weights"],
            window["batch"],
            window["mirror"],
        )
    if not logits.isfinite().all():
        raise UserError("the network gives NaN or Inf", fix="if it was trained in 16-mixed, predict with --device cpu")
    return class_values(facts["task"]["labels"])[geometry.argmax_to_native(channel.cpu().numpy() for channel in logits)]


def predict(
    model: Path,
    cases: Sequence[Case],
    raw: Path,
    window: Mapping[str, Any],
    out: Path,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes `<case>.nii.gz` per case into `out`, in the header of the native image, and `predictions.json`.

    Args:
        raw: folder of the raw data set, for the native headers.
        progress: called with (done, total).
    """
    network, facts = load_model(model)
    out.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases, start=1):
        geometry = Geometry.from_json(case.rows[0]["geometry"])
        labels = predict_native(network, facts, case.image(), geometry, window)
        nifti.write_volume(out / f"{case.name}.nii.gz", labels, like=raw / case.rows[0]["path"])
        progress(number, len(cases))
    about = {"model": facts["name"], "model_sha256": sha256(Path(model).with_suffix(".safetensors")), "inference": dict(window)}
    write_json(out / "predictions.json", about | {"cases": [case.name for case in cases]})


# ------------------------------------------------------------------------------------------------ any files


def prepare(images: Sequence[Path], facts: Mapping[str, Any]) -> tuple[np.ndarray, Geometry, list[str]]:
    """The images of one case as the model was shown its cases; equal to what the workflow stores of them.

    With `crop: nonzero` the box is the one around the voxels above 0 of all channels.

    Args:
        images: NIfTI files, one per sequence of the model, in its order, on one grid.
        facts: of the model.

    Returns:
        float16 (c, x, y, z) in [0, 1], its geometry, and remarks on the headers.

    Raises:
        UserError: wrong number or order of channels, different grids, unknown orientation, or what `volumes` refuses.
    """
    _check_channels(images, facts["task"]["sequences"])
    recipe = facts["preprocess"]
    limits = nifti.Limits(recipe["max_voxels"], tuple(recipe["spacing_range_mm"]))
    found = [nifti.read_volume(image, limits=limits) for image in images]
    for volume in found:
        _check_grid(volume, found[0])
    box = _common_box(found) if recipe["crop"] == "nonzero" else None
    with threadpool_limits(limits=1, user_api="blas"):  # as in a shard: the result depends on no thread count
        stored = [volumes.preprocess(volume, None, recipe, box) for volume in found]
    notes = [f"{image.name}: {note}" for image, (*_, about) in zip(images, stored, strict=True) for note in about["notes"]]
    return np.stack([volumes.to_float16(image) for image, *_ in stored]), stored[0][2], notes


@dataclass(frozen=True)
class Target:
    """A case and where its segmentation goes."""

    images: tuple[Path, ...]
    path: Path
    sources: tuple[str, ...]

    @property
    def sidecar(self) -> Path:
        return self.path.with_name(self.path.name.removesuffix(".nii.gz") + ".json")


def targets(cases: Sequence[Sequence[Path]], out: Path, as_bids: bool) -> list[Target | UserError]:
    """Places of the segmentations, case by case: `<image>_dseg.nii.gz` in `out`, or as in `bids`. A name that is no BIDS
    name gives an error in the place of its case.

    Raises:
        UserError: two cases would be written to one file, or images of several BIDS datasets come together.
    """
    found: list[Target | UserError] = []
    roots = {bids.root(image) for images in cases for image in images} if as_bids else set()
    if len(roots) > 1:
        listed = " ".join(map(str, sorted(roots)))
        raise UserError(f"the images are of several datasets: {listed}", fix="predict each into a dataset of its own")
    for images in cases:
        try:
            found.append(_bids_target(images, out, *roots) if as_bids else _target(images, out))
        except UserError as error:
            found.append(error)
    taken: dict[Path, Target] = {}
    for target in found:
        if isinstance(target, Target) and (other := taken.setdefault(target.path, target)) is not target:
            raise UserError(
                f"two cases would be written to this file: {other.images[0]} and {target.images[0]}",
                where=target.path,
                fix="give each of them an --out of its own, or use --bids",
            )
    return found


def predict_images(
    model: Path,
    cases: Sequence[Sequence[Path]],
    out: Path,
    window: Mapping[str, Any],
    *,
    as_bids: bool,
    force: bool,
    device: str | None,
    tell: Callable[[str], None],
) -> None:
    """Segments any NIfTI files; labels are written in their own headers, with a sidecar that says how they were made.

    A segmentation that was made from the same images by the same model in the same way is kept. One bad case does not
    cost the others.

    Args:
        model: see `load_model`.
        cases: each the images of its channels, in the order of the model's sequences.
        out: folder of the results; with `as_bids` a BIDS derivative dataset.
        window: overlap, weights, batch and mirror of the sliding window; what is missing is taken from the model.
        force: replace segmentations that were made in another way.
        tell: called with a line per case.

    Raises:
        UserError: an unusable model, or, after all cases, a list of those that could not be predicted.
    """
    network, facts = load_model(model, device)
    window = _window(facts, window, Path(model).with_suffix(".json"))
    commit, checksum = provenance.commit(), sha256(Path(model).with_suffix(".safetensors"))
    places = targets(cases, out, as_bids)
    if as_bids:
        source = bids.root(cases[0][0])
        bids.describe(out, facts, commit, {"URL": source.as_uri()}, os.path.relpath(source, out))
    else:
        bids.classes(out / "dseg.tsv", facts["task"]["labels"])
    failed = [target for target in places if isinstance(target, UserError)]
    for target in places:
        if isinstance(target, UserError):
            continue
        try:
            about = bids.sidecar(facts, checksum, window, target.sources) | _witness(target, commit)
            done = "kept" if _is_done(target, about, force) else _segment(network, facts, target, window, about)
            tell(f"{target.path}: {done}")
        except (UserError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, UserError) or memory.ran_out(error)):
                raise
            failed.append(_of_case(error, target))
            tell(f"{target.images[0]}: failed: {failed[-1].problem}")
    if failed:
        lines = [f"\n  {error.where}: {error.problem}" + (f"\n    fix: {error.fix}" if error.fix else "") for error in failed]
        raise UserError(f"{len(failed)} of {len(places)} cases were not predicted:{''.join(lines)}")


def as_derivatives(
    cases: Sequence[Case], predictions: Path, model: Path, raw: Path, source: Mapping[str, str], out: Path
) -> None:
    """Copies the predictions of a cohort into a BIDS derivative dataset.

    Args:
        predictions: folder that `predict` wrote.
        model: its model.safetensors.
        raw: folder of the raw data set.
        source: entry of SourceDatasets.
        out: folder of the dataset.

    Raises:
        UserError: two subjects or sessions have one BIDS label.
    """
    facts, about = read_json(Path(model).with_suffix(".json")), read_json(predictions / "predictions.json")
    places: dict[Path, Case] = {}
    for case in cases:
        found = {"sub": bids.label(case.subject)} | ({"ses": bids.label(case.session)} if case.session else {})
        if (other := places.setdefault(bids.place(found), case)) is not case:
            raise UserError(f"'{other.name}' and '{case.name}' have one BIDS label", where=raw, fix="rename one of them")
    bids.describe(out, facts, provenance.commit(), source, os.path.relpath(raw.absolute(), out.absolute()))
    for place, case in places.items():
        with atomic(out / place) as temporary:
            shutil.copyfile(predictions / f"{case.name}.nii.gz", temporary)
        sources = [f"bids:{bids.SOURCE}:{row['path']}" for row in case.rows]
        content = bids.sidecar(facts, about["model_sha256"], about["inference"], sources)
        write_json(out / place.with_name(place.name.removesuffix(".nii.gz") + ".json"), content)


# ------------------------------------------------------------------------------------------------ helpers


def _check_facts(facts: Mapping[str, Any], path: Path) -> None:
    """`facts` are those of a model, and complete.

    Raises:
        UserError: they are not.
    """
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if kind != "model":
        raise UserError(f"this is no segmentation model but of kind '{kind}'", where=path, fix="fine-tune it first")
    missing = [
        f"{part}.{key}".lstrip(".")
        for part, keys in _FACTS.items()
        for key in keys
        if key not in (facts.get(part, {}) if part else facts)
    ]
    if missing:
        raise UserError(
            f"it does not say {', '.join(missing)}", where=path, fix="take the json that was written with the tensors"
        )
    problem, sequences, labels = "", facts["task"]["sequences"], facts["task"]["labels"]
    if facts["in_channels"] != len(sequences):
        problem = f"{facts['in_channels']} channels, but {len(sequences)} sequences"
    if sorted(facts.get("classes", labels)) != sorted(labels):
        problem = f"classes {' '.join(facts['classes'])}, but labels {' '.join(labels)}"
    if problem:
        raise UserError(problem, where=path, fix="take the json that was written with the tensors")


def _fill(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads all tensors.

    Raises:
        UserError: one is missing, left over, or a misfit; each is named.
    """
    own = network.state_dict()
    problems = [f"missing: {name}" for name in own if name not in tensors]
    problems += [f"left over: {name}" for name in tensors if name not in own]
    both = own.keys() & tensors.keys()
    problems += filter(None, (weights.misfit(name, own[name], tensors[name]) for name in both))
    if problems:
        raise UserError(
            f"the tensors are not those of the json, {len(problems)} problems:\n  " + "\n  ".join(sorted(problems)[:20]),
            where=path,
            fix="keep model.safetensors and model.json of one training together",
        )
    network.load_state_dict(dict(tensors), strict=True)


def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device '{name}': {str(error).splitlines()[0]}", where="--device", fix="use cpu") from error
    return torch.device(name)


def _window(facts: Mapping[str, Any], asked: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Settings of the sliding window: what was asked for, else what the model's recipe says."""
    from brainpretrain import config

    window = dict(facts.get("inference") or {}) | {key: value for key, value in asked.items() if value is not None}
    if missing := [key for key in config.Inference.model_fields if key not in window and key != "note"]:
        options = " ".join(f"--{key}" for key in missing)
        raise UserError(f"it does not say how to predict: {', '.join(missing)}", where=where, fix=f"give {options}")
    return config.inference(window, "sliding window")


def _target(images: Sequence[Path], out: Path) -> Target:
    name = images[0].name.removesuffix(".gz").removesuffix(".nii")
    return Target(tuple(images), out / f"{name}_dseg.nii.gz", tuple(image.name for image in images))


def _bids_target(images: Sequence[Path], out: Path, source: Path) -> Target:
    found = [bids.entities(image) for image in images]
    for other, image in zip(found, images, strict=True):
        if [other.get(key) for key in ("sub", "ses")] != [found[0].get(key) for key in ("sub", "ses")]:
            raise UserError("the images of one case are of different subjects or sessions", where=image, fix="pair them anew")
    return Target(tuple(images), out / bids.place(found[0]), tuple(bids.uri(image, source) for image in images))


def _witness(target: Target, commit: str) -> dict[str, Any]:
    """What images and what code a segmentation comes from.

    Raises:
        UserError: an image is missing.
    """
    for image in target.images:
        if not image.is_file():
            raise UserError("file not found", where=image, fix="give the path of a NIfTI file")
    return {"SourceSHA256": [sha256(image) for image in target.images], "Version": bids.release(commit)}


def _is_done(target: Target, about: Mapping[str, Any], force: bool) -> bool:
    """The very segmentation that `about` describes is there.

    Raises:
        UserError: another one is there, and it is not to be replaced.
    """
    if not target.path.exists():
        return False
    if not (target.sidecar.exists() and "ModelSHA256" in (found := read_json(target.sidecar))):
        raise UserError("a file is there that is no prediction", where=target.path, fix="move it away, or give another --out")
    if force or found == about:
        return not force
    raise UserError(
        "a file is there that was made from other images, by another model or in another way",
        where=target.path,
        fix="use --force to replace it, or another --out",
    )


def _segment(
    network: torch.nn.Module, facts: Mapping[str, Any], target: Target, window: Mapping[str, Any], about: Mapping[str, Any]
) -> str:
    """Predicts and writes a case; a word on what came out."""
    image, geometry, notes = prepare(target.images, facts)
    labels = predict_native(network, facts, image, geometry, window)
    target.sidecar.unlink(missing_ok=True)  # it vouches for the file beside it: first to go, last to come
    nifti.write_volume(target.path, labels, like=target.images[0])
    write_json(target.sidecar, about)
    return "; ".join([f"{np.count_nonzero(labels)} voxels", *notes])


def _of_case(error: UserError | RuntimeError | MemoryError, target: Target) -> UserError:
    """The error as one of this case, with the image that it is about."""
    if not isinstance(error, UserError):
        return UserError("out of memory", where=target.images[0], fix="use --batch 1, or --device cpu if a GPU ran out")
    return error if error.where else UserError(error.problem, where=target.images[0], fix=error.fix)


def _check_channels(images: Sequence[Path], sequences: Sequence[str]) -> None:
    """As many images as sequences, and none whose name ends in the name of another sequence of the model."""
    if len(images) != len(sequences):
        how = "give each case as one word: " + ",".join(f"{name}.nii.gz" for name in sequences)
        raise UserError(
            f"{len(images)} image(s) for a model of {' '.join(sequences)}", where=images[0], fix=how if len(sequences) > 1 else ""
        )
    for image, sequence in zip(images, sequences, strict=True):
        called = image.name.split(".")[0].rsplit("_", 1)[-1]
        if called in sequences and called != sequence:
            raise UserError(
                f"it is called {called}, and stands where the model wants {sequence}",
                where=image,
                fix=f"give the images in this order: {','.join(sequences)}",
            )


def _check_grid(volume: nifti.Volume, first: nifti.Volume) -> None:
    """A known orientation, and the grid of the first channel."""
    if not volume.facts["qform_code"] and not volume.facts["sform_code"]:
        raise UserError(
            "neither qform nor sform is set: left and right cannot be told",
            where=volume.path,
            fix="write an affine into the header (sform_code 1), if you know how the head lay",
        )
    try:
        volumes.require_same_grid(first, volume, volume.path)
    except nifti.BadVolume as error:
        raise UserError(
            f"it is not on the grid of {first.path.name}: {error.problem}",
            where=volume.path,
            fix=f"register and resample it to the grid of {first.path.name}",
        ) from error


def _common_box(found: Iterable[nifti.Volume]) -> tuple[slice, ...] | None:
    """The box around the voxels above 0 of all volumes, in RAS; None if there is none."""
    boxes = [volumes.foreground_box(to_ras(volume.array, volume.affine)[0]) for volume in found]
    sides = list(zip(*(box for box in boxes if box), strict=True))
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides) or None
