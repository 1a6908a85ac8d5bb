"""Files from elsewhere: what is taken over, and everything that is refused."""

from __future__ import annotations

import json
import zipfile

import lightning as L
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from brainpretrain import backbones, cli, config, decoders, pretext
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones import mednext, unet
from brainpretrain.config.runs import pretrain_run
from brainpretrain.decoders import unet as unet_decoder
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, sha256, write_json
from brainpretrain.training.modules import Pretraining
from brainpretrain.weights import foreign, importing, matching
from brainpretrain.weights import store as weights
from helpers import ROOT
from reference import BOTH_ROUNDED, ROUNDING, assert_matches, filled, fixture, reference_tensor, stand_in, wave
from trainings import finetune_here

TINY = {"architecture": "unet", "options": tiny.BACKBONE["options"]}


@pytest.fixture
def at_root(monkeypatch):
    """Where `config/` lies: names of entries are looked up there."""
    monkeypatch.chdir(ROOT)


def amaes_state() -> dict[str, torch.Tensor]:
    """A state dict with the names of the AMAES code, of the size of the tests: encoder, and one tensor of a decoder."""
    own = backbones.build("unet", 1, **TINY["options"]).state_dict()
    names = {name: "model.encoder." + unet.reference_name(name) for name in own}
    state = {other: reference_tensor(other, list(own[name].shape)) for name, other in names.items()}
    return state | {"model.rec_head.out_conv.bias": torch.zeros(1)}


def take(path, out, **options):
    arguments = {"backbone": TINY, "preprocess": None, "release": None} | options
    return importing.import_encoder(path, out, **arguments)


def saved(path, content):
    torch.save(content, path)
    return path


# ------------------------------------------------------------------------------------ parity with the authors' networks


@pytest.mark.parametrize(
    ("backbone", "file"), [("unet_b", "amaes_unet_b_lw_dec.json"), ("mednext_m", "amaes_mednext_m3_lw_dec.json")]
)
@torch.no_grad()
def test_an_imported_encoder_gives_the_features_of_the_authors_network(tmp_path, at_root, capsys, backbone, file):
    expected = fixture(file)
    path = stand_in(tmp_path / expected["published_file"], expected["tensors"])
    out = tmp_path / "encoder"
    assert cli.main(["import", str(path), "--backbone", backbone, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "known as amaes_released by its name" in said and "left in the file: rec_head, 26 tensors of 3,744,673 values" in said
    np.save(tmp_path / "x.npy", wave()[0, 0].numpy())
    line = ["features", str(tmp_path / "x.npy"), "--encoder", str(out), "--raw", "--out", str(tmp_path / "f.npz")]
    assert cli.main(line) == 0
    with np.load(tmp_path / "f.npz") as maps:
        assert list(maps) == [f"level{n}" for n in range(5)]
        features = [torch.from_numpy(maps[name]) for name in maps]
    for found, wanted, rounding in zip(features, expected["features"], ROUNDING[file][:5], strict=True):
        assert_matches(found, wanted, rounding, BOTH_ROUNDED)  # the command computes in float32
    tensors, _ = weights.load(out / "encoder")
    reference_name = {"unet_b": unet, "mednext_m": mednext}[backbone].reference_name
    for name, tensor in tensors.items():  # tests/backbones/test_parity.py compares their features in float64
        assert torch.equal(tensor, reference_tensor("model.encoder." + reference_name(name), list(tensor.shape))), name
    facts = read_json(out / "encoder.json")
    assert facts["preprocess"] == config.load(ROOT / "config").stored_as("amaes")
    assert facts["source"]["sha256"] == sha256(path) and facts["source"]["release_known_by"] == "file name"
    if expected["output"]:
        entry = config.load(ROOT / "config").backbones[backbone]
        decoder = decoders.build("unet", backbones.build("unet", 1, **entry.options), 1, convs_per_stage=1, skips=False)
        tensors = foreign.read_tensors(path)
        found = matching.match(
            decoder.state_dict(), tensors, [lambda name: [unet_decoder.reference_name(name)]], path, "rec_head."
        )
        decoder.load_state_dict({name: tensors[other] for name, other in found.names.items()})
        assert_matches(decoder(features, wave()), expected["output"], ROUNDING[file][5], BOTH_ROUNDED)


@torch.no_grad()
def test_monais_release_gives_the_features_that_monai_makes_of_it(tmp_path):
    from monai.networks.nets.swin_unetr import SwinUNETR

    options = config.load(ROOT / "config").backbones["swinunetr_tiny"].options
    torch.manual_seed(0)
    own = backbones.build("swinunetr", 1, **options).state_dict()
    released = {
        "module." + name.removeprefix("swin.").replace("mlp.linear", "mlp.fc"): torch.randn(t.shape)
        if t.is_floating_point()
        else t
        for name, t in own.items()
    }
    released |= {"module.rotation_head.weight": torch.zeros(4, 12)}
    path = saved(tmp_path / "model_swinvit.pt", {"epoch": 3, "state_dict": released})
    facts = take(path, tmp_path / "encoder", backbone={"architecture": "swinunetr", "options": options})
    assert facts["source"]["left"] == {"rotation_head": {"tensors": 1, "values": 48}}
    reference = SwinUNETR(1, 2, depths=options["depths"], num_heads=options["num_heads"], window_size=4, feature_size=12)
    reference.load_from({"state_dict": released})
    encoder, _ = weights.encoder(tmp_path / "encoder")
    image = wave().double()  # in float64, so that the tolerance is far above the rounding
    for found, wanted in zip(encoder.double()(image), reference.eval().double().swinViT(image, True), strict=True):
        assert torch.allclose(found, wanted, atol=1e-9)


@pytest.mark.parametrize("prefix", ["module.swinViT.", "swin_vit."])
def test_later_names_of_monais_encoder_are_known(tmp_path, prefix):
    options = config.load(ROOT / "config").backbones["swinunetr_tiny"].options
    encoder = backbones.build("swinunetr", 1, **options)
    state = {name.replace("swin.", prefix, 1): tensor for name, tensor in encoder.state_dict().items()}
    take(saved(tmp_path / "x.pt", state), tmp_path / "out", backbone={"architecture": "swinunetr", "options": options})
    assert_same(tmp_path / "out", encoder)


# ------------------------------------------------------------------------------------ layouts and wrappers


@pytest.mark.parametrize("wrap", ["{}", "model._orig_mod.{}", "module.{}", "_orig_mod.model.{}"])
def test_wrappers_in_names_are_dropped(tmp_path, wrap):
    state = {wrap.format(name.removeprefix("model.")): tensor for name, tensor in amaes_state().items()}
    take(saved(tmp_path / "x.pth", state), tmp_path / "out")
    tensors, _ = weights.load(tmp_path / "out" / "encoder")
    assert torch.equal(tensors["stages.0.0.conv.weight"], amaes_state()["model.encoder.in_conv.conv1.conv.weight"])


def test_the_report_says_where_every_tensor_of_the_file_went(tmp_path):
    take(saved(tmp_path / "x.pth", amaes_state()), tmp_path / "out")
    report = read_tsv(tmp_path / "out" / "import.tsv")
    assert len(report) == len(amaes_state()) and set(report["status"]) == {"imported", "left"}
    (left,) = report[report["status"] == "left"].to_dict("records")
    assert left == {"tensor": "", "name_in_file": "rec_head.out_conv.bias", "shape": "1", "status": "left"}


def test_a_lightning_checkpoint_of_the_authors_is_read_past_its_hyper_parameters(tmp_path):
    state = {name.replace("model.", "model._orig_mod."): tensor for name, tensor in amaes_state().items()}
    content = {
        "epoch": 3,
        "state_dict": state,
        "hyper_parameters": {"config": {"patch_size": (96, 96, 96)}},
        "optimizer_states": [{}],
    }
    facts = take(saved(tmp_path / "last.ckpt", content), tmp_path / "out")
    assert facts["preprocess"] is None and facts["source"]["release"] is None


def test_a_lightning_checkpoint_of_this_project_is_read(tmp_path):
    run = pretrain_run(tiny.pretrain_config(4), "test")
    encoder = filled(backbones.build("unet", 1, **TINY["options"]))
    task = pretext.build("amaes", encoder, 1, **run.recipe.options)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(Pretraining(task, run.recipe, Policy({}), []))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    take(tmp_path / "last.ckpt", tmp_path / "out")
    assert_same(tmp_path / "out", encoder)


def test_own_weights_bring_their_facts(tmp_path):
    network = filled(decoders.build_network(tiny.BACKBONE, 2, 2))
    facts = {"kind": "model", "name": "mine", "in_channels": 2, "backbone": tiny.BACKBONE, "preprocess": tiny.PREPROCESS}
    weights.save(tmp_path / "model", network.state_dict(), facts | {"recipe": {"patch_size": [16, 16, 16]}})
    found = take(tmp_path / "model.safetensors", tmp_path / "out", backbone=None)
    assert (found["name"], found["in_channels"], found["patch_size"]) == ("mine", 2, [16, 16, 16])
    assert found["preprocess"] == tiny.PREPROCESS and found["backbone"] == TINY
    assert_same(tmp_path / "out", network.encoder)


def assert_same(folder, encoder):
    tensors, _ = weights.load(folder / "encoder")
    assert tensors.keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in encoder.state_dict().items())


# ------------------------------------------------------------------------------------ as an init


def test_an_imported_encoder_is_finetuned_like_one_of_ours(cohort, tmp_path):
    path = saved(tmp_path / "theirs.pth", amaes_state())
    recipe = tiny.finetune_config(1, phases=[tiny.phase(1, lr=1e-12)])
    take(path, tmp_path / "unknown")
    with pytest.raises(UserError, match=r"does not say how its volumes were prepared[\s\S]*--preprocess"):
        finetune_here(cohort, tmp_path, recipe, tmp_path / "unknown" / "encoder.safetensors")
    take(path, tmp_path / "known", preprocess=tiny.PREPROCESS)
    out = finetune_here(cohort, tmp_path, recipe, tmp_path / "known" / "encoder.safetensors")
    model, wanted = load_file(out / "model.safetensors"), amaes_state()
    for name in wanted.keys() - {"model.rec_head.out_conv.bias"}:
        own = next(key for key in model if key.startswith("encoder.") and "model.encoder." + unet.reference_name(key[8:]) == name)
        assert torch.allclose(model[own], wanted[name], atol=1e-6)
    assert set(read_tsv(out / "transfer.tsv")["status"]) == {"loaded"}


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "in_conv.conv1.norm.bias" not in k}, r"1 problems:\s+missing: encoder.in_conv.conv1.norm.bias"),
        (lambda s: s | {"model.encoder.in_conv.conv1.norm.bias": torch.zeros(9)}, r"norm.bias is \[9\] in the file, \[4\] in the network"),
        (lambda s: s | {"model.encoder.in_conv.conv1.norm.bias": torch.full((4,), torch.nan)}, r"not finite: encoder.in_conv.conv1.norm.bias"),
        (lambda s: s | {"model.encoder.in_conv.conv1.norm.bias": torch.zeros(4, dtype=torch.int64)}, r"other type: .*int64"),
        (lambda s: s | {"model.encoder.in_conv.conv1.norm.bias": torch.zeros(4).to_sparse()}, "missing: encoder.in_conv.conv1.norm.bias"),
        (lambda s: s | {"model.encoder.in_conv.conv1.norm.bias": torch.zeros(4, device="meta")}, "missing: encoder.in_conv.conv1.norm.bias"),
        (lambda s: s | {"model.encoder.encoder_conv3.conv1.norm.bias": torch.zeros(4)}, r"not in this backbone: encoder.encoder_conv3"),
        (lambda s: s | {"encoder.in_conv.conv1.norm.bias": torch.ones(4)}, r"two tensors are called 'encoder.in_conv.conv1.norm.bias'"),
        (lambda s: {f"{k}.resnet": v for k, v in s.items()}, r"none of the \d+ tensors is in the file, whose tensors are called encoder.in"),
        (lambda s: {"weights": list(s.values())}, r"no state dict in the file; found: weights"),
        (lambda s: [1, 2], r"no state dict in the file; found: list"),
    ],
    ids=["missing", "shape", "nan", "type", "sparse", "meta", "larger network", "twice", "other names", "no state dict", "no mapping"],
)  # fmt: skip
def test_all_tensors_or_none(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        take(saved(tmp_path / "x.pth", change(amaes_state())), tmp_path / "out")
    assert caught.value.where.endswith("x.pth") and caught.value.fix
    assert not (tmp_path / "out").exists()


def test_another_backbone_is_refused(tmp_path):
    path = saved(tmp_path / "x.pth", amaes_state())
    wider = {"architecture": "unet", "options": TINY["options"] | {"width": 8}}
    with pytest.raises(UserError, match=r"nothing was imported, 12 problems:[\s\S]*is \[4, 1, 3, 3, 3\] in the file, \[8"):
        take(path, tmp_path / "out", backbone=wider)
    other = config.load(ROOT / "config").backbones["mednext_tiny"].model_dump()
    with pytest.raises(UserError, match="none of the"):
        take(path, tmp_path / "out", backbone=other)


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def test_what_is_no_weights_file_is_refused_by_name(tmp_path):
    def refused(name, message):
        with pytest.raises(UserError, match=message) as caught:
            take(tmp_path / name, tmp_path / "out")
        assert caught.value.where.endswith(name)

    refused("absent.pth", "not found")
    (tmp_path / "folder.pth").mkdir()
    refused("folder.pth", "not found")
    cut(saved(tmp_path / "short.pth", amaes_state()))
    refused("short.pth", "truncated or damaged zip")
    save_file(amaes_state(), tmp_path / "short.safetensors")
    cut(tmp_path / "short.safetensors")
    refused("short.safetensors", "not readable as safetensors")
    (tmp_path / "login.pth").write_text("<!DOCTYPE html><title>Sign in</title>")
    refused("login.pth", "a web page, not weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    refused("empty.pth", "neither safetensors nor a zip")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    refused("other.pth", "cannot read it as plain tensors")


def pickled(path, opcodes):
    """A file as torch writes it, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + opcodes + b".")
        archive.writestr("x/version", "3\n")
        archive.writestr("x/byteorder", "little")
    return path


PAIRS = b"K\x01" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))  # 2^60 values, to whoever hashes or prints them


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (PAIRS, "not as torch.save writes it: tuples nested without end"),
        (b"}" + PAIRS + b"Ns", "tuples nested without end"),
        (b"}K\x01K\x01\x86Ns", "no state dict in the file; found: tuple"),
        (b"}", "no state dict in the file; found: dict"),
        (b"X\xff\xff\xff\xff", "truncated or damaged zip file"),
        (b"h\x07", "truncated or damaged zip file"),
        (b"cos\\\xed\nsystem\n", "truncated or damaged zip file|cannot read it as plain tensors|would run code"),
    ],
)
def test_an_odd_pickle_is_refused_and_keeps_nobody_waiting(tmp_path, opcodes, message):
    with pytest.raises(UserError, match=message):
        foreign.read_tensors(pickled(tmp_path / "x.pth", opcodes))


def test_a_zip_of_an_unknown_version(tmp_path):
    path = saved(tmp_path / "x.pth", amaes_state())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 6] = 255
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged zip file: zip file version 25\.5"):
        foreign.read_tensors(path)


def test_a_value_that_no_float32_holds(tmp_path):
    state = amaes_state()
    state["model.encoder.in_conv.conv1.norm.bias"] = torch.full((4,), 1e300, dtype=torch.float64)
    with pytest.raises(UserError, match=r"not finite: encoder.in_conv.conv1.norm.bias"):
        take(saved(tmp_path / "x.pth", state), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_of_eight_bits_are_read(tmp_path):
    state = amaes_state()
    name = "model.encoder.in_conv.conv1.norm.bias"
    state[name] = state[name].to(torch.float8_e5m2)
    save_file(state, tmp_path / "x.safetensors")
    take(tmp_path / "x.safetensors", tmp_path / "out")


def test_sizes_are_limited_before_anything_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.pth", amaes_state())
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    with pytest.raises(UserError, match="compressed tensors"):
        take(tmp_path / "bomb.pth", tmp_path / "out")
    monkeypatch.setattr(foreign, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"bytes, more than 1000"):
        take(path, tmp_path / "out")


def test_a_network_that_is_not_recognised_must_be_named(tmp_path):
    state = {name.replace("in_conv", "first"): tensor for name, tensor in amaes_state().items()}
    with pytest.raises(
        UserError, match=r"does not say what network it holds, and its tensors are called encoder.first[\s\S]*--backbone"
    ):
        take(saved(tmp_path / "x.pth", state), tmp_path / "out", backbone=None)


# ------------------------------------------------------------------------------------ releases


def release(**changes):
    facts = {"release": "theirs", "page": "https://page", "licence": None, "citation": "Them 2024", "corpus": "45 volumes",
             "preprocess": tiny.PREPROCESS, "patch_size": [16, 16, 16], "file": "x.pth", "url": "https://page/x.pth",
             "bytes": None, "md5": None, "sha256": None}  # fmt: skip
    return facts | changes


def test_a_release_that_is_not_in_place_says_what_to_get_where(tmp_path):
    with pytest.raises(
        UserError, match=r"'theirs' are not in place[\s\S]*https://page/x.pth and put it there as x.pth"
    ) as caught:
        take(tmp_path / "weights" / "x.pth", tmp_path / "out", release=release())
    assert caught.value.where == str(tmp_path / "weights" / "x.pth") and "licence: not known here" in caught.value.fix


def test_a_release_is_the_file_of_its_checksum(tmp_path):
    path = saved(tmp_path / "x.pth", amaes_state())
    facts = take(path, tmp_path / "out", release=release(sha256=sha256(path), bytes=path.stat().st_size))
    assert facts["source"]["release_known_by"] == "checksum" and facts["name"] == "theirs"
    assert facts["preprocess"] == tiny.PREPROCESS and facts["source"]["citation"] == "Them 2024"
    for wrong in ({"md5": "0" * 32}, {"sha256": "0" * 64}, {"bytes": 7}):
        with pytest.raises(UserError, match=rf"{next(iter(wrong))} is \w+, that of the release is [07]+"):
            take(path, tmp_path / "out", release=release(**wrong))


def test_every_released_file_has_a_backbone_and_the_papers_preprocessing():
    entries = config.load(ROOT / "config")
    for name, found in entries.weights.items():
        for backbone in found.files:
            assert backbone in entries.backbones
            facts = entries.release(name, backbone)
            assert json.loads(json.dumps(facts)) == facts and facts["url"].startswith("https://") and facts["page"]


def test_the_command_says_what_is_not_known(tmp_path, capsys):
    path = saved(tmp_path / "x.pth", amaes_state())
    assert cli.main(["import", str(path), "--backbone", json.dumps(TINY), "--out", str(tmp_path / "out")]) == 0
    assert "not known how its volumes were prepared: give --preprocess" in capsys.readouterr().out
    write_json(tmp_path / "recipe.json", tiny.PREPROCESS)
    line = ["import", str(path), "--backbone", json.dumps(TINY), "--preprocess", f"@{tmp_path / 'recipe.json'}"]
    assert cli.main([*line, "--out", str(tmp_path / "out")]) == 0
    assert "not known" not in capsys.readouterr().out
    assert read_json(tmp_path / "out" / "encoder.json")["preprocess"] == tiny.PREPROCESS


def test_a_mistyped_backbone_gets_the_nearest_name(tmp_path, at_root, capsys):
    assert cli.main(["import", "x.pth", "--backbone", "unet_bb", "--out", str(tmp_path)]) == 2
    assert "did you mean 'unet_b'?" in capsys.readouterr().err
