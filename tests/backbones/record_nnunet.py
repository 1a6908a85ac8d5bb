"""Records what nnU-Net makes of an export. Run it where nnunetv2 and dynamic_network_architectures are installed:

    PYTHONPATH=src:tests python tests/backbones/record_nnunet.py FILE.pth FILE.json OUT.json

It builds the network with nnU-Net's own functions from the exported plan, loads the exported file with nnU-Net's loader,
and writes names, shapes and checksums of the tensors and, in x y z order and double precision, the features of `reference.wave`.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from reference import checksum, wave


@torch.no_grad()
def main(file: str, plan: str, out: str) -> None:
    (configuration,) = json.loads(Path(plan).read_text())["configurations"].values()
    spec = configuration["architecture"]
    channels = len(configuration["normalization_schemes"])
    network = get_network_from_plans(
        spec["network_class_name"], spec["arch_kwargs"], spec["_kw_requires_import"], channels, 3, deep_supervision=True
    )
    load_pretrained_weights(network, file)
    network.double()  # rounding in float32 differs with the order of the axes
    image = wave().double().expand(-1, channels, -1, -1, -1).permute(0, 1, 4, 3, 2).contiguous()
    assert [maps.shape[1] for maps in network(image)] == [3] * (len(network.decoder.seg_layers))
    features = [found.permute(0, 1, 4, 3, 2) for found in network.encoder(image)]
    state = {name: tensor for name, tensor in network.state_dict().items() if ".seg_layers." not in name}
    record = {
        "made_with": {name: version(name) for name in ("nnunetv2", "dynamic_network_architectures", "torch")},
        "tensors": {name: {"shape": list(t.shape), "checksum": checksum(t)} for name, t in state.items()},
        "features": [
            {"shape": list(f.shape), "mean": f.mean().item(), "std": f.std().item(), "first8": f.flatten()[:8].tolist()}
            for f in features
        ],
    }
    Path(out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
