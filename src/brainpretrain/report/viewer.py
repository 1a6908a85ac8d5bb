"""Cases in 3-D in a browser: a page with the viewer NiiVue, which opens from a folder without a server.

A page opened from a folder may not read files, but it may run scripts. So the volumes of an arm are a script that passes them
to the page, loaded when the arm is chosen. The page fetches nothing and sends nothing.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainpretrain import files
from brainpretrain.errors import UserError
from brainpretrain.report.figures.canvas import SEQUENCE_COLOURS
from brainpretrain.report.overlays import Overlay
from brainpretrain.report.pages import html

BUNDLE = "niivue.umd.js"
NIIVUE = "@niivue/niivue@0.69.0"  # the version that the page was tested with
HEAD = "brainpretrainCases("
POLICY = (  # the browser enforces that the page fetches and sends nothing
    "default-src 'none'; script-src 'unsafe-inline' 'self' file:; style-src 'unsafe-inline'; "
    "connect-src data: blob:; img-src data: blob:; font-src data:; worker-src blob:; form-action 'none'"
)


def require_bundle(path: Path) -> None:
    """Raises UserError, with the commands that download NiiVue's bundle, unless the bundle is at `path`."""
    if not path.is_file():
        fix = (
            f"with Node.js: npm pack {NIIVUE} && tar -xzf niivue-niivue-*.tgz package/dist/{BUNDLE}, "
            f"and copy package/dist/{BUNDLE} to that path (2.3 MB, BSD-2-Clause)"
        )
        raise UserError("the viewer NiiVue is not in place", where=path, fix=fix)


def write_cases(path: Path | str, title: str, cases: Sequence[Overlay], classes: Sequence[str]) -> None:
    """Writes the volumes of an arm as a script.

    Args:
        path: .js file.
        title: name of the arm and cohort in the page's list.
        cases: what `report.overlays.load_overlays` returned; images are stored with 8 bits, as a screen shows them.
        classes: names of the label values 1, 2, ...
    """
    content = {"title": title, "classes": list(classes), "cases": [_case(case) for case in cases]}
    with files.atomic(path) as temporary:
        temporary.write_text(f"{HEAD}{json.dumps(content)});\n", encoding="utf-8")


def _case(case: Overlay) -> dict[str, Any]:
    low, high = np.quantile(case.image, [0.002, 0.998])
    grey = np.clip((case.image - low) / ((high - low) or 1.0) * 255, 0, 255).round().astype(np.uint8)
    reference, prediction = (labels.astype(np.uint8) for labels in (case.reference, case.prediction))
    volumes = {
        "image": grey,
        "reference": reference,
        "prediction": prediction,
        "disagreement": (reference != prediction).astype(np.uint8),
    }
    facts = {key: case.pick[key] for key in ("rank", "volume", "fold", "dice")}
    stored = {name: _nifti(array, case.spacing_mm) for name, array in volumes.items()}
    return facts | {"centre": _centre(reference, prediction), "volumes": stored}


def _centre(reference: np.ndarray, prediction: np.ndarray) -> list[int]:
    """The voxel shown first: the labelled voxel nearest to the centre of the reference, or else of the prediction."""
    for labels in (reference, prediction):
        voxels = np.argwhere(labels)
        if len(voxels):
            return voxels[((voxels - voxels.mean(0)) ** 2).sum(1).argmin()].tolist()
    return [n // 2 for n in reference.shape]


def _nifti(array: np.ndarray, spacing_mm: Sequence[float]) -> str:
    """A gzipped NIfTI in base64: RAS, with the origin in the centre."""
    import nibabel as nib

    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(array.shape) - 1) / 2 * np.array(spacing_mm)
    return base64.b64encode(gzip.compress(nib.Nifti1Image(array, affine).to_bytes(), mtime=0)).decode()


def write_page(path: Path, title: str, scripts: Sequence[Path], bundle: Path) -> None:
    """Writes the page that lists the arms, and a copy of the bundle next to it.

    Args:
        path: index.html.
        title: title of the study.
        scripts: files of `write_cases`, in the folder of the page or below.
        bundle: NiiVue's bundle.

    Raises:
        UserError: the bundle is missing, or a file was not written by `write_cases`.
    """
    require_bundle(bundle)
    arms = [[_title(script), script.relative_to(path.parent).as_posix()] for script in scripts]
    with files.atomic(path.parent / BUNDLE) as temporary:
        shutil.copyfile(bundle, temporary)
    values = {"arms": sorted(arms), "colours": SEQUENCE_COLOURS, "bundle": BUNDLE, "policy": POLICY}
    html.write(path, html.render("viewer", title=f"{title}: cases", **values))


def _title(script: Path) -> str:
    try:
        text = script.read_text(encoding="utf-8")
        return str(json.loads(text.removeprefix(HEAD).rstrip().removesuffix(");"))["title"])
    except (ValueError, KeyError, OSError) as error:
        raise UserError("not a file of cases", where=script, fix="make it again with `brainpretrain overlay-cases`") from error
