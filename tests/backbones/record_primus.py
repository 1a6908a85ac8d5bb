"""Records what Primus of dynamic_network_architectures makes of tensors that are filled by a formula. Run it where that and timm are:

    PYTHONPATH=src python tests/backbones/record_primus.py OUT.json

The network is small, on a grid with three different sides; figures are in double precision. Tokens are in C order, as nnssl's fork of
the package and its present source have them; the release 0.4.2 exchanges the first two axes, so its `forward` is not called.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.primus import Primus

from brainpretrain.parity.formulas import filling, image

OPTIONS = {"image_size": [32, 24, 16], "token": 8, "width": 24, "depth": 3, "num_heads": 2, "mlp_width": 64}
FORMULA = "x[b,c,i,j,k] = 0.5 + 0.5*sin(0.11*i + 0.23*j + 0.31*k + 0.7*b + 0.5*c)"
CLASSES = 3


@torch.no_grad()
def main(out: str) -> None:
    network = Primus(
        1, OPTIONS["width"], (OPTIONS["token"],) * 3, CLASSES, eva_depth=OPTIONS["depth"], eva_numheads=OPTIONS["num_heads"],
        input_shape=tuple(OPTIONS["image_size"]), init_values=0.1, scale_attn_inner=True,
    )  # fmt: skip
    state = {name: tensor for name, tensor in network.state_dict().items() if name != "mask_token"}
    network.load_state_dict({name: filling(name, tensor.shape) for name, tensor in state.items()}, strict=False)
    network.double().eval()
    x = torch.from_numpy(image(FORMULA, [2, 1, *OPTIONS["image_size"]]))
    tokens = network.eva(network.down_projection(x).flatten(2).transpose(1, 2))[0]
    record = {
        "made_with": {name: version(name) for name in ("dynamic_network_architectures", "timm", "torch")},
        "options": OPTIONS,
        "classes": CLASSES,
        "image": FORMULA,
        "tensors": {name: list(tensor.shape) for name, tensor in state.items()},
    }
    grid = [n // OPTIONS["token"] for n in OPTIONS["image_size"]]
    logits = network.up_projection(tokens.transpose(1, 2).unflatten(2, grid))
    for name, tensor in {"tokens": tokens, "logits": logits}.items():
        flat = tensor.flatten()
        ends = {"first8": flat[:8].tolist(), "last8": flat[-8:].tolist()}
        record[name] = {"shape": list(tensor.shape), "mean": flat.mean().item(), "std": flat.std().item(), **ends}
    Path(out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
