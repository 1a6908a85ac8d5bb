"""Segmentations of a cohort of the workflow, and their copies as a BIDS derivative dataset."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainpretrain import provenance
from brainpretrain.cohorts.cases import Case
from brainpretrain.config.sections import Degradation
from brainpretrain.errors import UserError
from brainpretrain.evaluation import bids
from brainpretrain.evaluation.degrade import degrade
from brainpretrain.evaluation.model import load_model, predict_native
from brainpretrain.files import atomic, read_json, sha256, write_json
from brainpretrain.preprocess import nifti, sources
from brainpretrain.preprocess.geometry import Geometry
from brainpretrain.scales import Rule

Progress = Callable[[int, int], None]


def predict_cohort(
    model: Path,
    cases: Sequence[Case],
    raw: Path,
    window: Mapping[str, Any],
    out: Path,
    progress: Progress = lambda done, total: None,
    worse: Degradation | None = None,
) -> None:
    """Writes `<case>.nii.gz` per case into `out`, in the header of the native image, and `predictions.json`.

    Args:
        model: see `load_model`.
        raw: folder of the raw data set, for the native headers.
        window: overlap, weights, batch and mirror of the sliding window.
        progress: called with (done, total).
        worse: how the images are degraded; None: they are predicted as they are.

    Raises:
        UserError: slices of `worse` are no thicker than the stored voxels, a raw file is not the one that was stored
            (`sources.read_image`), or as `load_model`.
    """
    network, facts = load_model(model)
    rule = Rule.of_facts(facts)
    out.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases, start=1):
        geometry = Geometry.from_json(case.rows[0]["geometry"])
        sources.read_image(raw, case.folder, case.rows[0])  # before the work: the result is written with the header of this file
        image = case.image()
        if worse:
            image = degrade(image, worse, geometry.stored_spacing_mm, facts["task"]["sequences"], case.name)
        labels = predict_native(network, facts, image, geometry, window, rule.of_rows(case.rows, case.folder))
        nifti.write_volume(out / f"{case.name}.nii.gz", labels, like=raw / case.rows[0]["path"])
        progress(number, len(cases))
    record = {"model": facts["name"], "model_sha256": sha256(Path(model).with_suffix(".safetensors")), "inference": dict(window)}
    if worse:
        record["degrade"] = worse.model_dump(mode="json", exclude_none=True)
    write_json(out / "predictions.json", record | {"cases": [case.name for case in cases]})


def as_derivatives(
    cases: Sequence[Case], predictions: Path, model: Path, raw: Path, source: Mapping[str, str], out: Path
) -> None:
    """Copies the predictions of a cohort into a BIDS derivative dataset.

    Args:
        predictions: folder that `predict_cohort` wrote.
        model: the `model.safetensors` that predicted them.
        raw: folder of the raw data set.
        source: entry of SourceDatasets.
        out: folder of the dataset.

    Raises:
        UserError: two subjects or sessions have one BIDS label, a subject has none, or a raw file is not the one that was
            stored.
    """
    facts, record = read_json(Path(model).with_suffix(".json")), read_json(predictions / "predictions.json")
    places: dict[Path, Case] = {}
    for case in cases:
        if not bids.label(case.subject):
            raise UserError(f"'{case.subject}' has no letter or digit that BIDS allows", where=raw, fix="rename the subject")
        entities = {"sub": bids.label(case.subject)} | ({"ses": bids.label(case.session)} if case.session else {})
        if (other := places.setdefault(bids.place(entities), case)) is not case:
            raise UserError(f"'{other.name}' and '{case.name}' have one BIDS label", where=raw, fix="rename one of them")
    for folder, row in [(case.folder, row) for case in cases for row in case.rows]:
        sources.read_image(raw, folder, row)
    bids.describe(out, facts, provenance.commit(), source, os.path.relpath(raw.absolute(), out.absolute()))
    for place, case in places.items():
        with atomic(out / place) as temporary:
            shutil.copyfile(predictions / f"{case.name}.nii.gz", temporary)
        files = [f"bids:{bids.SOURCE}:{row['path']}" for row in case.rows]
        sidecar = bids.sidecar(facts, record["model_sha256"], record["inference"], files)
        write_json(out / bids.sidecar_of(place), sidecar)
