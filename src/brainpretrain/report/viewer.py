"""Cases to turn and leaf through in a browser: a page with NiiVue, made of files beside each other and opened without a server.

A browser lets a page read no file beside it, but lets it run one as a script: so the volumes of an arm are a script that
hands them over, and it is loaded when the arm is chosen. Nothing is fetched from anywhere and nothing leaves the machine.
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
NIIVUE = "@niivue/niivue@0.69.0"  # the version that the page was looked at with
HEAD = "brainpretrainCases("
POLICY = (  # the browser itself keeps the page from sending or fetching anything
    "default-src 'none'; script-src 'unsafe-inline' 'self' file:; style-src 'unsafe-inline'; "
    "connect-src data: blob:; img-src data: blob:; font-src data:; worker-src blob:; form-action 'none'"
)


def require_bundle(path: Path) -> None:
    """Raises UserError, with the commands that get it, unless NiiVue's bundle is at `path`."""
    if not path.is_file():
        fix = (
            f"with Node.js: npm pack {NIIVUE} && tar -xzf niivue-niivue-*.tgz package/dist/{BUNDLE}, "
            f"and put package/dist/{BUNDLE} there (2.3 MB, BSD-2-Clause)"
        )
        raise UserError("the viewer NiiVue is not in place", where=path, fix=fix)


def write_cases(path: Path | str, title: str, cases: Sequence[Overlay], classes: Sequence[str]) -> None:
    """Writes the volumes of an arm as a script.

    Args:
        path: .js file.
        title: of the arm and cohort, as the page lists it.
        cases: as for `figures.overlays.draw`; images are kept with 8 bits, which is what a screen shows.
        classes: names of the values 1, 2, ...
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
    """Where to look first: the labelled voxel nearest to the middle of the reference, or else of the prediction."""
    for labels in (reference, prediction):
        places = np.argwhere(labels)
        if len(places):
            return places[((places - places.mean(0)) ** 2).sum(1).argmin()].tolist()
    return [n // 2 for n in reference.shape]


def _nifti(array: np.ndarray, spacing_mm: Sequence[float]) -> str:
    """A gzipped NIfTI in base64: RAS, the origin in the middle."""
    import nibabel as nib

    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(array.shape) - 1) / 2 * np.array(spacing_mm)
    return base64.b64encode(gzip.compress(nib.Nifti1Image(array, affine).to_bytes(), mtime=0)).decode()


def write_page(path: Path, title: str, scripts: Sequence[Path], bundle: Path) -> None:
    """Writes the page that lists the arms, with the bundle beside it.

    Args:
        path: index.html.
        title: of the study.
        scripts: what `write_cases` wrote, in the folder of the page or below.
        bundle: NiiVue's bundle.

    Raises:
        UserError: no bundle, or a file is not what `write_cases` writes.
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
