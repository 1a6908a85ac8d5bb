"""A file of nnssl's S3D, in which every encoder layer stands twice: the import must take the copies that were trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from brainpretrain import backbones
from brainpretrain.backbones.base import stem
from brainpretrain.files import read_tsv
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, exact, summary
from brainpretrain.weights import exporting, importing, store

_MAPS = 1e-3  # the fixture is float32, whose rounding instance norms of few voxels amplify; the network here is float64
_AGAIN = "decoder."  # the decoder of nnssl holds the encoder once more


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "network_weights" in content and "features_with_trained_copies_dense_encoder" in content


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for the network that is recognised, the tensors that are taken, the features, and the stem of more channels."""
    shapes = content["network_weights"]
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "checkpoint_final.pth", Path(folder) / "encoder"
        exporting.write_checkpoint(path, {"network_weights": _tensors(shapes), "trainer_name": "SparkTrainer"})
        facts = importing.import_encoder(path, out, None, None, None)
        report = read_tsv(out / "import.tsv")
        encoder, _ = store.encoder(out)
        wider = backbones.build("resenc", content["stem_for_more_channels"]["channels"], **facts["backbone"]["options"])
        store.load_encoder(wider, store.load(out / "encoder")[0])
    options = facts["backbone"]["options"]
    recorded = [*content["widths"], *content["blocks_per_stage"]]
    yield exact("widths and blocks that are recognised", [*options["widths"], *options["blocks"]], recorded)
    imported = report[report["status"] == "imported"]
    stale = [name for name in imported["name_in_file"] if "all_modules" not in name]
    yield exact("names of imported tensors that were not trained", stale, [])
    inside = [name for name in shapes if name.startswith("encoder.")]
    yield exact("tensors named as untrained", int((report["status"] == "stale").sum()), len(inside))  # in both places of the file
    image = torch.from_numpy(formulas.image("x[b,c,i,j,k] = " + _formula(content), content["input"]["shape"]))
    with torch.no_grad():
        features = encoder.double()(image.float().double())
    trained, wrong = (content[key] for key in ("features_with_trained_copies_dense_encoder", _key_of_stale(content)))
    for level, (found, wanted, untrained) in enumerate(zip(features, trained, wrong, strict=True)):
        yield summary(f"features, level {level}", found, wanted, _MAPS)
        yield exact(f"features of the untrained copies, level {level}", summary("", found, untrained, _MAPS).passes, False)
    yield summary("stem of more channels", stem(wider).weight, content["stem_for_more_channels"]["summary"])


def _tensors(shapes: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """The content of the file, filled by its names; the encoder's tensors once more under the decoder."""
    tensors = {name: formulas.filling(name, shape) for name, shape in shapes.items()}
    return tensors | {_AGAIN + name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}


def _formula(content: Mapping[str, Any]) -> str:
    return str(content["filling"]["image"]).partition("=")[2].strip()


def _key_of_stale(content: Mapping[str, Any]) -> str:
    return next(key for key in content if key.startswith("features_if_the_stale"))
