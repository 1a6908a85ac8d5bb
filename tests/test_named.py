import subprocess
import sys

import pytest

from brainpretrain import named
from brainpretrain.errors import UserError


def loads(module: str, code: str) -> bool:
    """Whether a fresh Python that runs `code` has imported `module`."""
    return subprocess.run([sys.executable, "-c", f"{code}; import sys; sys.exit({module!r} in sys.modules)"]).returncode == 1


def test_a_name_is_a_file_with_a_build():
    assert {"amaes", "swinunetr"} <= set(named.names("pretext"))
    assert named.names("augment") == []


def test_names_import_nothing_heavy():
    assert not loads("torch", "from brainpretrain import backbones, pretext; backbones.names(); pretext.names()")


def test_monai_is_imported_only_where_needed():
    assert not loads(
        "monai",
        "from brainpretrain import decoders; from brainpretrain.evaluation import inference; from brainpretrain.backbones import swinunetr",
    )


def test_an_unknown_name():
    with pytest.raises(UserError, match=r"there is no pretext/amaesx\.py") as caught:
        named.module("pretext", "amaesx")
    assert caught.value.fix == "did you mean 'amaes'?"


def test_options():
    def build(size: int, *, width: int, depth: int = 2) -> None: ...

    named.check_options(build, {"width": 1}, "here")
    with pytest.raises(UserError, match="missing options: width"):
        named.check_options(build, {"depth": 1}, "here")
    with pytest.raises(UserError, match="unknown option 'size'"):
        named.check_options(build, {"width": 1, "size": 3}, "here")
