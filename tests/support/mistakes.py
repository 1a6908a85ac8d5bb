"""A mistake in a config folder, and the message that refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import tables
from helpers import edit


def refused(folder: Path, file: str, old: str, new: str, message: str) -> None:
    """Replaces `old` by `new` in a file of a config folder, and expects that loading and planning fail with `message`."""
    edit(folder / file, old, new)
    with pytest.raises(UserError, match=message) as caught:
        tables.make(config.load(folder))
    place = {"config.yaml": "studies"}.get(file, file) if "no study" in message else file
    assert place in str(caught.value) or "tables.table" in str(caught.value)
