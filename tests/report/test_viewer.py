from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainpretrain.errors import UserError
from brainpretrain.report import viewer
from brainpretrain.report.overlays import Overlay

HOSTILE = "</script><script>alert(1)</script>"


def case(rank: str = "worst", empty: bool = False) -> Overlay:
    rng = np.random.default_rng(0)
    image = rng.normal(500, 100, (8, 10, 6))
    reference = np.zeros((8, 10, 6), int)
    if not empty:
        reference[2:5, 3:6, 1:4] = 1
        reference[3, 4, 2] = 2
    pick = {"rank": rank, "volume": f"sub-1{HOSTILE}", "fold": "0", "dice": 0.5, "task": "t"}
    return Overlay(pick, image, reference, np.roll(reference, 1, 0), (1.0, 1.0, 2.5))


def content(path: Path) -> dict:
    return json.loads(path.read_text().removeprefix(viewer.HEAD).removesuffix(");\n"))


def volume(stored: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(stored)))


def test_the_volumes_come_back_as_they_were(tmp_path: Path) -> None:
    viewer.write_cases(tmp_path / "a.js", "arm", [case()], ["anterior", "posterior"])
    (entry,) = content(tmp_path / "a.js")["cases"]
    stored = {name: volume(text) for name, text in entry["volumes"].items()}
    for name in ("reference", "prediction"):
        assert np.array_equal(stored[name].dataobj, getattr(case(), name))
    assert np.array_equal(stored["disagreement"].dataobj, case().reference != case().prediction)
    assert np.allclose(np.diag(stored["image"].affine), [1, 1, 2.5, 1]) and nib.aff2axcodes(stored["image"].affine) == (
        "R",
        "A",
        "S",
    )
    image, shown = case().image, np.asarray(stored["image"].dataobj)
    inside = (shown > 0) & (shown < 255)
    assert np.corrcoef(image[inside], shown[inside])[0, 1] > 0.999 and shown.min() == 0 and shown.max() == 255
    assert entry["centre"] == [3, 4, 2] and set(entry) == {"rank", "volume", "fold", "dice", "centre", "volumes"}


def test_without_any_label_the_centre_is_shown(tmp_path: Path) -> None:
    viewer.write_cases(tmp_path / "a.js", "arm", [case(empty=True)], ["lesion"])
    assert content(tmp_path / "a.js")["cases"][0]["centre"] == [4, 5, 3]


def test_the_same_cases_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.js", "b.js"):
        viewer.write_cases(tmp_path / name, "arm", [case()], ["lesion"])
    assert (tmp_path / "a.js").read_bytes() == (tmp_path / "b.js").read_bytes()


def test_the_page_lists_the_arms_and_names_no_address(tmp_path: Path) -> None:
    bundle = tmp_path / "from" / viewer.BUNDLE
    bundle.parent.mkdir()
    bundle.write_text("// NiiVue")
    scripts = [tmp_path / "page" / "t" / f"{name}.js" for name in ("b", "a")]
    for script in scripts:
        viewer.write_cases(script, f"{script.stem}{HOSTILE}", [case()], ["lesion"])
    viewer.write_page(tmp_path / "page" / "index.html", "Study <1>", scripts, bundle)
    page = (tmp_path / "page" / "index.html").read_text()
    arms = json.loads(re.search(r"const ARMS = (.*);", page)[1])
    assert arms == [[f"a{HOSTILE}", "t/a.js"], [f"b{HOSTILE}", "t/b.js"]]
    assert HOSTILE not in page and "Study &lt;1&gt;: cases" in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [viewer.BUNDLE] and "http:" not in page and "https:" not in page
    assert "never leave this machine" in page and "connect-src data: blob:;" in page and "@" not in page.split("<body>")[1]
    assert (tmp_path / "page" / viewer.BUNDLE).read_text() == "// NiiVue"


def test_without_the_bundle_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"npm pack @niivue/niivue@\d+\.\d+\.\d+ && tar"):
        viewer.write_page(tmp_path / "index.html", "Study", [], tmp_path / viewer.BUNDLE)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / viewer.BUNDLE).touch()
    (tmp_path / "a.js").write_text("something else")
    with pytest.raises(UserError, match="not a file of cases"):
        viewer.write_page(tmp_path / "index.html", "Study", [tmp_path / "a.js"], tmp_path / viewer.BUNDLE)
