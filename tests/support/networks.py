"""Networks of config entries, for the tests of all decoders."""

from __future__ import annotations

import torch

from brainpretrain import backbones, config, decoders
from helpers import ROOT

ENTRIES = config.load(ROOT / "config").backbones
LIGHT = {"convs_per_stage": 1, "skips": False}
STANDARD = {"convs_per_stage": 2, "skips": True}


def network(backbone: str, classes: int, kind: str | None = None, options: dict | None = None, meta: bool = True):
    """Segmenter of a config entry."""
    entry = ENTRIES[backbone]
    with torch.device("meta" if meta else "cpu"):
        encoder = backbones.build(entry.architecture, 1, **entry.options)
        decoder = decoders.build(
            kind or entry.decoder, encoder, classes, **(entry.decoder_options if options is None else options)
        )
    return decoders.Segmenter(encoder, decoder)
