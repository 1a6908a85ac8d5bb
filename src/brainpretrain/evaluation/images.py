"""Segmentation of any NIfTI files: each case is prepared as `model.json` says, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from brainpretrain import config, memory, provenance
from brainpretrain.errors import UserError
from brainpretrain.evaluation import bids, finding
from brainpretrain.evaluation.model import labels_native, load_ensemble, logits_of, probabilities_native
from brainpretrain.files import read_json, sha256, write_json
from brainpretrain.preprocess import atlases, nifti, sessions, volumes
from brainpretrain.preprocess.geometry import Geometry
from brainpretrain.preprocess.recipes import option
from brainpretrain.scales import Rule


def predict_images(
    models: Sequence[Path],
    given: Sequence[str | Path],
    out: Path,
    window: Mapping[str, Any],
    *,
    as_bids: bool,
    force: bool,
    device: str | None,
    tell: Callable[[str], None],
    probabilities: bool = False,
    participants: Sequence[str] = (),
) -> None:
    """Segments NIfTI files; each label file has the header of its image, and a JSON sidecar that says how it was made.

    A segmentation that was made from the same images by the same model with the same settings is kept. A case that cannot be
    predicted does not stop the others.

    Args:
        models: see `load_model`; several are averaged.
        given: cases, each a file, files joined by commas in the order of the model's sequences, or a folder of cases
            (see `finding.cases`).
        out: folder of the results; with `as_bids` a BIDS derivative dataset.
        window: overlap, weights, batch and mirror of the sliding window; None stands for the model's setting.
        as_bids: name and describe the results as a BIDS derivative dataset.
        force: replace segmentations that were made from other images, by another model or with other settings.
        device: see `load_model`.
        tell: called with a line per case.
        probabilities: also write the probability of each class, a file per class.
        participants: subjects of a BIDS folder; none: all.

    Raises:
        UserError: the model or a setting is unusable; or, after all cases, a list of those that could not be predicted.
    """
    network, facts = load_ensemble(models, device)
    window = _window(facts, window, models[0].with_suffix(".json"))
    cases = list(_cases(given, facts["task"]["sequences"], participants))
    commit, checksums = provenance.commit(), [sha256(model.with_suffix(".safetensors")) for model in models]
    checksum = checksums[0] if len(models) == 1 else checksums
    placed = place(cases, out, as_bids)
    if as_bids:
        source = bids.root(cases[0][0])
        bids.describe(out, facts, commit, {"URL": source.as_uri()}, os.path.relpath(source, out))
    else:
        bids.write_classes(out / "dseg.tsv", facts["task"]["labels"])
    errors = list(placed.errors)
    for target in placed.targets:
        try:
            sidecar = bids.sidecar(facts, checksum, window, target.sources) | _origin(target, commit)
            done = _is_done(target, sidecar, force) and not (probabilities and target.missing(facts["task"]["labels"]))
            outcome = "kept" if done else _segment(network, facts, target, window, sidecar, probabilities)
            tell(f"{target.path}: {outcome}")
        except (UserError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, UserError) or memory.ran_out(error)):
                raise
            errors.append(_of_case(error, target))
            tell(f"{target.images[0]}: failed: {errors[-1].problem}")
    if errors:
        lines = [f"\n  {error.where}: {error.problem}" + (f"\n    fix: {error.fix}" if error.fix else "") for error in errors]
        raise UserError(f"{len(errors)} of {len(cases)} cases were not predicted:{''.join(lines)}")


def _cases(given: Sequence[str | Path], sequences: Sequence[str], participants: Sequence[str]) -> Iterator[list[Path]]:
    """The images of each case; of a folder all that it holds."""
    for word in given:
        if Path(word).is_dir():
            yield from finding.cases(Path(word), sequences, participants)
        else:
            yield [Path(word)] if Path(word).exists() else [Path(part) for part in str(word).split(",")]


def _window(facts: Mapping[str, Any], options: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Settings of the sliding window: the options that are given, else those of the model."""
    window = dict(facts.get("inference") or {}) | {key: value for key, value in options.items() if value is not None}
    if missing := [key for key in config.Inference.model_fields if key not in window and key != "note"]:
        flags = " ".join(f"--{key}" for key in missing)
        raise UserError(f"it does not say how to predict: {', '.join(missing)}", where=where, fix=f"give {flags}")
    return config.inference(window, "sliding window")


# ------------------------------------------------------------------------------------------------ places


@dataclass(frozen=True)
class Target:
    """A case and the place of its segmentation.

    Attributes:
        images: one per channel.
        path: the segmentation.
        sources: the images as its sidecar names them.
    """

    images: tuple[Path, ...]
    path: Path
    sources: tuple[str, ...]

    @property
    def sidecar(self) -> Path:
        return bids.sidecar_of(self.path)

    def probability(self, name: str) -> Path:
        """File of the probability of a class: `<case>_label-<name>_probseg.nii.gz`."""
        stem = self.path.name.removesuffix(".nii.gz").removesuffix("_dseg")
        return self.path.with_name(f"{stem}_label-{bids.label(name) or 'class'}_probseg.nii.gz")

    def missing(self, names: Iterable[str]) -> bool:
        """True if the probability of a class is not there."""
        return any(not self.probability(name).exists() for name in names)


@dataclass(frozen=True)
class Placed:
    """Cases that have a place for their segmentation, and an error for each of the others."""

    targets: list[Target] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)


def place(cases: Sequence[Sequence[Path]], out: Path, as_bids: bool) -> Placed:
    """The place of each segmentation: as `finding.output_name` in `out`, or with `as_bids` as in `bids.place`.

    Args:
        cases: for each case the images of its channels.

    Returns:
        With `as_bids`, a case has an error if its images have no BIDS names or are of different subjects or sessions.

    Raises:
        UserError: two cases have one place, or the images are of several BIDS datasets.
    """
    placed = Placed()
    roots = {bids.root(image) for images in cases for image in images} if as_bids else set()
    if len(roots) > 1:
        names = " ".join(map(str, sorted(roots)))
        raise UserError(f"the images are of several datasets: {names}", fix="predict each into a dataset of its own")
    for images in cases:
        try:
            for image in images:
                nifti.require_utf8(image)
            placed.targets.append(_bids_target(images, out, *roots) if as_bids else _target(images, out))
        except UserError as error:
            placed.errors.append(error)
    taken: dict[Path, Target] = {}
    for target in placed.targets:
        if (other := taken.setdefault(target.path, target)) is not target:
            raise UserError(
                f"two cases would be written to this file: {other.images[0]} and {target.images[0]}",
                where=target.path,
                fix="give each of them an --out of its own, or use --bids",
            )
    return placed


def _target(images: Sequence[Path], out: Path) -> Target:
    return Target(tuple(images), out / f"{finding.output_name(images[0])}.nii.gz", tuple(image.name for image in images))


def _bids_target(images: Sequence[Path], out: Path, source: Path) -> Target:
    entities = [bids.entities(image) for image in images]
    for image, own in zip(images, entities, strict=True):
        if [own.get(key) for key in ("sub", "ses")] != [entities[0].get(key) for key in ("sub", "ses")]:
            raise UserError(
                "the images of one case are of different subjects or sessions",
                where=image,
                fix="join the images of one subject and session by commas",
            )
    return Target(tuple(images), out / bids.place(entities[0]), tuple(bids.uri(image, source) for image in images))


# ------------------------------------------------------------------------------------------------ one case


def _origin(target: Target, commit: str) -> dict[str, Any]:
    """Checksums of the images, and the version of the program.

    Raises:
        UserError: an image is missing.
    """
    for image in target.images:
        if not image.is_file():
            raise UserError("file not found", where=image, fix="give the path of a NIfTI file")
    return {"SourceSHA256": [sha256(image) for image in target.images], "Version": bids.release(commit)}


def _is_done(target: Target, sidecar: Mapping[str, Any], force: bool) -> bool:
    """True if the segmentation exists, `sidecar` describes it, and it is not to be replaced.

    Raises:
        UserError: a file exists that must not be replaced.
    """
    if not target.path.exists():
        return False
    if not (target.sidecar.exists() and "ModelSHA256" in (existing := read_json(target.sidecar))):
        raise UserError("a file is there that is no prediction", where=target.path, fix="move it away, or give another --out")
    if force or existing == sidecar:
        return not force
    raise UserError(
        "a file is there that was made from other images, by another model or in another way",
        where=target.path,
        fix="use --force to replace it, or another --out",
    )


def _segment(
    network: torch.nn.Module,
    facts: Mapping[str, Any],
    target: Target,
    window: Mapping[str, Any],
    sidecar: Mapping[str, Any],
    probabilities: bool,
) -> str:
    """Predicts a case, writes labels, sidecar and probabilities, and returns a summary: labelled voxels, notes on the headers."""
    image, geometry, notes, scale = prepare(target.images, facts)
    logits = logits_of(network, facts, image, window, scale)
    labels = labels_native(logits, facts, geometry)
    target.sidecar.unlink(missing_ok=True)  # a sidecar exists only next to the complete file that it describes
    if probabilities:
        names = list(facts["task"]["labels"])
        for name, values in zip(names, probabilities_native(logits, geometry)[1:], strict=True):
            nifti.write_volume(target.probability(name), values, like=target.images[0])
    nifti.write_volume(target.path, labels, like=target.images[0])
    write_json(target.sidecar, sidecar)
    return "; ".join([f"{np.count_nonzero(labels)} voxels", *notes])


def _of_case(error: UserError | RuntimeError | MemoryError, target: Target) -> UserError:
    """The error with the image that it is about."""
    if not isinstance(error, UserError):
        return UserError("out of memory", where=target.images[0], fix="use --batch 1, or --device cpu if a GPU ran out")
    return error if error.where else UserError(error.problem, where=target.images[0], fix=error.fix)


# ------------------------------------------------------------------------------------------------ preparing


def prepare(images: Sequence[Path], facts: Mapping[str, Any]) -> tuple[np.ndarray, Geometry, list[str], np.ndarray | None]:
    """The images of one case, preprocessed as those that the model was trained on; equal to what the workflow stores of them.

    With `crop: nonzero` the box is the one around the voxels above 0 of all channels. The grid is that of the first.

    Args:
        images: NIfTI files, one per sequence of the model, in its order; on one grid, unless the recipe aligns them.
        facts: the model's facts.

    Returns:
        float16 (c, x, y, z) in [0, 1], its geometry, notes on the headers, and the scale (c, 4) of the model's rule of
        intensities, see `scales.py`.

    Raises:
        UserError: wrong number or order of channels, unknown orientation, or a volume that `sessions.prepare` refuses.
    """
    _check_channels(images, facts["task"]["sequences"])
    recipe = facts["preprocess"]
    _check_atlas(recipe, facts.get("atlas_checksum"))
    limits = nifti.Limits.of(recipe)
    channels = [nifti.read_volume(image, limits=limits) for image in images]
    for volume in channels:
        _check_orientation(volume)
    with threadpool_limits(limits=1, user_api="blas"):  # as in a shard: the result must not depend on the number of threads
        stored = sessions.prepare([(volume, None) for volume in channels], recipe)
    notes = [f"{image.name}: {note}" for image, own in zip(images, stored, strict=True) for note in own.facts["notes"]]
    scale = Rule.of_facts(facts).of_moments([(own.facts["mean"], own.facts["std"]) for own in stored])
    return np.stack([volumes.to_float16(own.image) for own in stored]), stored[0].geometry, notes, scale


def _check_channels(images: Sequence[Path], sequences: Sequence[str]) -> None:
    """Refuses another number of images than sequences, and a name that ends in another sequence than the one of its place."""
    if len(images) != len(sequences):
        fix = "give each case as one word: " + ",".join(f"{name}.nii.gz" for name in sequences) if len(sequences) > 1 else ""
        raise UserError(f"{len(images)} image(s) for a model of {' '.join(sequences)}", where=images[0], fix=fix)
    for image, sequence in zip(images, sequences, strict=True):
        suffix = image.name.split(".")[0].rsplit("_", 1)[-1]
        if suffix in sequences and suffix != sequence:
            raise UserError(
                f"it is called {suffix}, but the model expects {sequence} in its place",
                where=image,
                fix=f"give the images in this order: {','.join(sequences)}",
            )


def _check_atlas(recipe: Mapping[str, Any], checksum: str | None) -> None:
    """Refuses another atlas than the one that the model was trained in."""
    if (name := option(recipe, "atlas")) and checksum and checksum != atlases.load(name).checksum:
        problem = "this is not the atlas that the model was trained in: another header or other voxels"
        raise UserError(problem, where=name, fix="put the atlas of the training at this path")


def _check_orientation(volume: nifti.Volume) -> None:
    """Refuses an unknown orientation."""
    if not volume.facts["qform_code"] and not volume.facts["sform_code"]:
        raise UserError(
            "neither qform nor sform is set: left and right cannot be told",
            where=volume.path,
            fix="write an affine into the header (sform_code 1), if you know how the head lay",
        )
