"""Files of published encoders, by their recorded names: what is taken over, what is named as untrained, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, cli
from brainpretrain.backbones import resenc
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, write_json
from brainpretrain.parity import formulas
from brainpretrain.weights import exporting, importing
from brainpretrain.weights import store as weights

FIXTURES = Path(__file__).parents[1] / "parity" / "fixtures"
OPTIONS = {"widths": [4, 8], "blocks": [1, 2]}


def nnssl(stale: bool = False, channels: int = 1) -> dict[str, torch.Tensor]:
    """The encoder of a small file of nnssl, each layer under two names, and a part of its decoder."""
    own = backbones.build("resenc", channels, **OPTIONS).state_dict()
    tensors = {}
    for name, tensor in own.items():
        initial, trained = resenc.nnunet_names(name)
        for prefix in ("encoder.", "decoder.encoder."):
            tensors[prefix + trained] = formulas.filling(trained, list(tensor.shape))
            tensors[prefix + initial] = formulas.filling(initial if stale else trained, list(tensor.shape))
    return tensors | {"decoder.seg_layers.0.weight": torch.zeros(1, 4, 1, 1, 1)}


def trained(name: str) -> str:
    return resenc.nnunet_names(name)[1]


def take(folder, content, **options):
    path = folder / "x" / "checkpoint_final.pth"
    path.parent.mkdir(exist_ok=True)
    exporting.write_checkpoint(path, content)
    arguments = {"backbone": None, "preprocess": None, "release": None} | options
    return importing.import_encoder(path, folder / "encoder", **arguments)


def assert_trained(folder, facts, channels=1):
    assert facts["backbone"] == {"architecture": "resenc", "options": OPTIONS} and facts["in_channels"] == channels
    tensors, _ = weights.load(folder / "encoder" / "encoder")
    for name, tensor in tensors.items():
        assert torch.equal(tensor, formulas.filling(trained(name), list(tensor.shape))), name


# ------------------------------------------------------------------------------------ nesting


def nested(state: dict[str, torch.Tensor]) -> dict:
    """Mappings in mappings, as far as the names go."""
    tree: dict = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        here = tree
        for word in path:
            here = here.setdefault(word, {})
        here[last] = tensor
    return tree


NESTINGS = {
    "released": lambda s: {"network_weights": s, "init_args": {"plan": {"a": 1}}, "trainer_name": "BaseMAETrainer"},
    "raw, with an optimiser": lambda s: {"optimizer_state": {"state": {0: {"m": torch.zeros(2)}}}, "network_weights": s, "_best_ema": None},
    "bare": lambda s: s,
    "in two holders": lambda s: {"model": {"state_dict": s}, "epoch": torch.tensor(3)},
    "unknown key": lambda s: {"weights": s, "step": 7},
    "DDP and compiled": lambda s: {"state_dict": {f"module._orig_mod.model.{name}": tensor for name, tensor in s.items()}},
    "inside another module": lambda s: {"state_dict": {f"student.backbone.{name}": tensor for name, tensor in s.items()}},
    "a mapping per module": nested,
    "a mapping for each half": lambda s: {
        "network_weights": {half: {name.partition(".")[2]: t for name, t in s.items() if name.startswith(half)} for half in ("encoder", "decoder")}
    },
}  # fmt: skip


@pytest.mark.parametrize("nesting", NESTINGS)
def test_the_encoder_is_found_in_every_nesting(tmp_path, nesting):
    facts = take(tmp_path, NESTINGS[nesting](nnssl()))
    assert_trained(tmp_path, facts)
    assert facts["source"]["stale"] == 0
    left = {name.rpartition("decoder")[0] for name in facts["source"]["left"]}
    assert len(left) == 1 and sum(part["tensors"] for part in facts["source"]["left"].values()) == 1


def test_every_tensor_of_the_file_is_in_the_report(tmp_path):
    state = nnssl(stale=True)
    facts = take(tmp_path, {"network_weights": state})
    assert_trained(tmp_path, facts)
    report = read_tsv(tmp_path / "encoder" / "import.tsv")
    own = len(backbones.build("resenc", 1, **OPTIONS).state_dict())
    assert report["status"].value_counts().to_dict() == {"imported": own, "copy": own, "stale": 2 * own, "left": 1}
    assert sorted(report["name_in_file"]) == sorted(state)
    stale = report[report["status"] == "stale"]
    assert not stale["name_in_file"].str.contains("all_modules").any() and (
        facts["source"]["stale"],
        facts["source"]["copies"],
    ) == (2 * own, own)


def test_the_number_of_channels_is_that_of_the_file(tmp_path):
    assert_trained(tmp_path, take(tmp_path, {"network_weights": nnssl(channels=3)}), channels=3)


def test_the_command_names_what_it_left(tmp_path, capsys):
    exporting.write_checkpoint(tmp_path / "x.pth", {"network_weights": nnssl(stale=True)})
    assert cli.main(["import", str(tmp_path / "x.pth"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "untrained in the file: 62 tensors are initial values" in said and "copies in the file: 31 tensors" in said


# ------------------------------------------------------------------------------------ what is refused


def without(state, *endings):
    return {name: tensor for name, tensor in state.items() if not name.endswith(endings)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (without(nnssl(stale=True), "stem.convs.0.all_modules.0.weight"), r"missing: encoder.stem.convs.0.all_modules.0.weight; .*conv.weight has initial values"),
        (without(nnssl(), "stem.convs.0.all_modules.1.bias", "stem.convs.0.norm.bias"), "missing: encoder.stem.convs.0.all_modules.1.bias"),
        (nnssl() | {"encoder.stages.1.blocks.0.conv3.all_modules.0.weight": torch.zeros(1)}, "not in this backbone: encoder.stages.1.blocks.0.conv3"),
        ({f"{part}.{name}": t + (part == "teacher") for part in ("student", "teacher") for name, t in nnssl().items()},
         r"several networks of this layout[\s\S]*under 'teacher.encoder.', 62 tensors have other values[\s\S]*--part 'student.encoder.'"),
    ],
    ids=["a trained copy", "both copies", "a larger network", "two networks"],
)  # fmt: skip
def test_half_an_encoder_is_refused(tmp_path, state, message):
    with pytest.raises(UserError, match=message):
        take(tmp_path, {"network_weights": state})
    assert not (tmp_path / "encoder").exists()


def test_one_of_two_networks_is_imported_by_its_prefix(tmp_path):
    state = {f"{part}.{name}": t + (part == "teacher") for part in ("student", "teacher") for name, t in nnssl().items()}
    assert_trained(tmp_path, take(tmp_path, {"network_weights": state}, part="student.encoder."))


def test_copies_of_one_layer_may_be_missing_where_all_copies_agree(tmp_path):
    assert_trained(tmp_path, take(tmp_path, {"network_weights": without(nnssl(), "stem.convs.0.all_modules.0.weight")}))


@pytest.mark.parametrize(
    ("backbone", "advice"),
    [
        ({"architecture": "resenc", "options": {"widths": [4, 9], "blocks": [1, 2]}}, r"widths \[4, 8\], blocks \[1, 2\]: leave --backbone out"),
        ({"architecture": "unet", "options": {"width": 4, "levels": 2, "convs_per_stage": 2}}, r"the file holds a 'resenc' with the options widths \[4, 8\]"),
    ],
    ids=["other widths", "other architecture"],
)  # fmt: skip
def test_the_advice_names_the_network_that_the_file_holds(tmp_path, backbone, advice):
    with pytest.raises(UserError) as caught:
        take(tmp_path, {"network_weights": nnssl()}, backbone=backbone)
    assert re.search(advice, caught.value.fix), caught.value.fix


# ------------------------------------------------------------------------------------ adaptation plans

PLAN = json.loads((FIXTURES / "published_layouts.json").read_text())["adaptation_plan_example"]
RELEASE = {"release": "theirs", "page": "https://page", "licence": None, "citation": "x", "corpus": "x", "patch_size": [160, 160, 160],
           "intensity": "zscore", "preprocess": {"spacing_mm": [1, 1, 1], "upper_quantile": 1.0, "crop": "nonzero"},
           "file": "x.pth", "url": "https://page/x.pth", "bytes": None, "md5": None, "sha256": None}  # fmt: skip


def changed(*path, value):
    """The recorded plan with another value at a place."""
    plan = json.loads(json.dumps(PLAN))
    here = plan
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return plan


def test_a_plan_states_patch_and_intensities_and_is_kept(tmp_path):
    spelt = {key: value for key, value in PLAN.items() if key != "keys_to_in_proj"} | {
        "key_to_in_proj": "encoder.stem.convs.0.conv"
    }
    for plan in (PLAN, spelt):
        facts = take(tmp_path, {"network_weights": nnssl(), "nnssl_adaptation_plan": plan})
        assert facts["patch_size"] == [160, 160, 160] and facts["intensity"] == "zscore" and facts["preprocess"] is None
        assert facts["source"]["adaptation_plan"]["dataset"] == "Dataset745_OpenMind"
    write_json(tmp_path / "x" / "adaptation_plan.json", PLAN | {"trainer_name": "BaseMAETrainer"})
    facts = take(tmp_path, {"network_weights": nnssl()}, release=RELEASE)  # from the file beside it, and as the entry says
    assert facts["source"]["adaptation_plan"]["network"] == "ResEncL" and facts["intensity"] == "zscore"


ONE_MM = ("pretrain_plan", "configurations", "onemmiso")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (changed(*ONE_MM, "spacing", value=[2, 1, 1]), r"spacing is \[2.0, 1.0, 1.0\] mm, the preprocess recipe of the entry has \[1, 1, 1\]"),
        (changed(*ONE_MM, "normalization_schemes", value=["RescaleTo01Normalization"]), "the entry says intensity zscore"),
        (changed(*ONE_MM, "patch_size", value=[96, 96, 96]), r"the patch is \[96, 96, 96\], the entry says \[160, 160, 160\]"),
        (changed("pretrain_num_input_channels", value=2), "pretrain_num_input_channels is 2, the first convolution reads 1"),
        (changed("architecture_plans", "arch_class_name", value="PrimusM"), "arch_class_name is PrimusM, the tensors are those of a 'resenc'"),
        (changed("architecture_plans", "arch_kwargs", value={"features_per_stage": [4, 9]}), r"features_per_stage is \[4, 9\], the tensors have \[4, 8\]"),
        (changed("key_to_encoder", value="backbone"), "key_to_encoder: no tensor is called backbone"),
        (changed("keys_to_in_proj", value=["encoder.stem.convs.0.other"]), "keys_to_in_proj: no tensor is called encoder.stem.convs.0.other"),
        (changed("key_to_in_proj", value="encoder.other"), "keys_to_in_proj and key_to_in_proj name different tensors"),
        ([1], "not an adaptation plan"),
    ],
    ids=["spacing", "intensity", "patch", "channels", "class", "widths", "encoder", "stem", "spellings", "no plan"],
)  # fmt: skip
def test_a_plan_that_contradicts_the_file_or_the_entry_is_refused(tmp_path, plan, message):
    with pytest.raises(UserError, match=message):
        take(tmp_path, {"network_weights": nnssl(), "nnssl_adaptation_plan": plan}, release=RELEASE)
    assert not (tmp_path / "encoder").exists()


def test_two_plans_that_differ_are_refused(tmp_path):
    (tmp_path / "x").mkdir()
    write_json(tmp_path / "x" / "adaptation_plan.json", changed("key_to_stem", value="encoder"))
    with pytest.raises(UserError, match="the one beside it differ in key_to_stem"):
        take(tmp_path, {"network_weights": nnssl(), "nnssl_adaptation_plan": PLAN})


# ------------------------------------------------------------------------------------ recorded layouts


def test_a_layout_that_is_off_is_an_error(tmp_path, capsys):
    content = json.loads((FIXTURES / "nnssl_s3d_file_small.json").read_text())
    content["features_with_trained_copies_dense_encoder"] = content["features_if_the_stale_copies_were_read (wrong)"]
    write_json(tmp_path / "x.json", content)
    assert cli.main(["parity", str(tmp_path)]) != 0
    assert "OFF" in capsys.readouterr().out and read_json(tmp_path / "x.json")
