"""Import of the authors' checkpoints: names, values, outputs, and files that must be refused."""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from released_layout import CODE, random_weights, released_outputs, released_sdf, released_shapes
from torch import Tensor

from crisp_ros.network import library as library_module
from crisp_ros.network.checkpoint import CheckpointError, Model, load_model, save_model
from crisp_ros.network.official import OfficialOptions, import_official, read_official

TOTAL = 39_114_388


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def codes() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "mug": generator.standard_normal(CODE).astype(np.float32),
        "bowl": generator.standard_normal((1, CODE)),
    }


@pytest.fixture(scope="module")
def released(weights, codes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "checkpoint.pth"
    state = {
        "model": {f"_orig_mod.module.{name}": tensor for name, tensor in weights.items()},
        "shape_code_library": codes,
        "hparams": {"lr": 3e-4, "backbone_input_res": (224, 224), "normalized_recons": False},
        "epoch": 7,
        "best": np.float64(0.3),
    }
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def model(released: Path) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_module, "_HALF_SIDES_M", (0.1,))  # random shapes never close
        patch.setattr(library_module, "_COARSE", 8)
        return import_official(released)


def light_weights() -> dict[str, Tensor]:
    """Return every released weight as a view of one zero, for a file of a few kilobytes."""
    return {name: torch.zeros(1).expand(shape) for name, shape in released_shapes().items()}


def _refused(path: Path, cause: str, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_official(path, options=OfficialOptions(**options))
    assert caught.value.cause == cause, caught.value
    return str(caught.value)


def _saved(path: Path, **state) -> Path:
    torch.save(state, path)
    return path


def test_every_weight_is_taken_over(weights, model: Model) -> None:
    assert sum(tensor.numel() for tensor in weights.values()) == TOTAL
    assert sum(p.numel() for p in model.network.parameters()) == TOTAL
    assert len(model.network.state_dict()) == len(weights)
    assert model.network.crop_size == 224
    assert not model.network.training
    assert model.header["data"]["file"] == "checkpoint.pth"
    assert model.header["version"] == "official-checkpoint"


@pytest.mark.parametrize("side", [56, 70])  # at 70 px the levels' sizes do not nest
def test_outputs_are_those_of_the_released_network(weights, model: Model, side: int) -> None:
    crops = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        output = model.network(crops)
        pnc, code = released_outputs(weights, (crops - mean) / std)
    assert output.pnc.shape == (2, 3, side, side) and output.code.shape == (2, CODE)
    assert pnc.std() > 0.1 and code.std() > 0.1
    torch.testing.assert_close(output.pnc, pnc, rtol=0, atol=5e-5)
    torch.testing.assert_close(output.code, code, rtol=0, atol=5e-5)


def test_decoder_is_the_released_one(weights, model: Model) -> None:
    generator = torch.Generator().manual_seed(2)
    points = 0.1 * torch.randn((40, 3), generator=generator)
    code = torch.randn(CODE, generator=generator)
    sdf = released_sdf(weights, points, code)
    torch.testing.assert_close(model.network.decoder.sdf(points, code), sdf, rtol=0, atol=1e-5)


def test_library_is_sorted_by_name_and_open_shapes_are_named(codes, model: Model) -> None:
    assert model.library is not None and model.library.names == ("bowl", "mug")
    for name, code in zip(model.library.names, model.library.codes, strict=True):
        assert np.array_equal(code.numpy(), codes[name].astype(np.float32).ravel())
    assert model.header["open_shapes"] == ["bowl", "mug"]
    assert torch.isfinite(model.library.diameters).all()


def test_a_checkpoint_without_library(tmp_path) -> None:
    path = _saved(tmp_path / "a.pth", model=light_weights())
    model = import_official(path, options=OfficialOptions("metric"))
    assert model.library is None
    assert model.network.crop_size == 420


def test_missing_and_unexpected_weights_are_named(weights, tmp_path) -> None:
    other = {name: torch.zeros(1) for name in weights}
    other["nocs_net.conv_nocs.headx.head.0.weight"] = other.pop("nocs_net.conv_nocs.head.0.weight")
    other["recons_net.final_layer.weight"] = torch.zeros(1, 128)
    path = _saved(tmp_path / "a.pth", model=other)
    message = _refused(path, "incompatible", shapes="metric")
    assert "1 missing (nocs_net.conv_nocs.head.0.weight)" in message
    assert "1 unexpected (nocs_net.conv_nocs.headx.head.0.weight)" in message
    assert "of another shape" in message


@pytest.mark.parametrize(
    "setting",
    [
        {"nocs_network_type": "dpt_gnfusion_gnnocs_sigmoid"},
        {"nocs_lateral_layers_type": "last_four"},
        {"recons_shape_code_normalization": "sphere"},
        {"backbone_input_res": (420, 300)},
        {"backbone_input_res": (100, 100)},
    ],
)
def test_variants_that_compute_something_else_are_refused(tmp_path, setting) -> None:
    path = _saved(tmp_path / "a.pth", model={"x": torch.zeros(1)}, hparams=setting)
    assert next(iter(setting)) in _refused(path, "incompatible", shapes="metric")


def test_a_code_of_another_length(tmp_path) -> None:
    library = {"can": np.zeros(256, dtype=np.float32)}
    path = _saved(tmp_path / "a.pth", model=light_weights(), shape_code_library=library)
    assert "can has length 256" in _refused(path, "incompatible", shapes="metric")


def test_values_that_are_not_finite(tmp_path) -> None:
    path = _saved(tmp_path / "a.pth", model={"x": torch.tensor([1.0, float("nan")])})
    assert "x is not" in _refused(path, "corrupt")
    library = {"can": np.full(3, np.inf)}
    path = _saved(tmp_path / "b.pth", model={"x": torch.zeros(1)}, shape_code_library=library)
    assert "can" in _refused(path, "corrupt")


def _repickled(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Rewrite an archive's pickle, as if another machine had written it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, change(content) if name.endswith("/data.pkl") else content)


def test_gpu_and_half_precision_tensors_load_as_cpu_float32(tmp_path) -> None:
    path = _saved(tmp_path / "a.pth", model={"module.x": torch.ones(3, dtype=torch.float16)})
    _repickled(path, lambda p: p.replace(b"\x03\0\0\0cpu", b"\x06\0\0\0cuda:1"))
    with pytest.raises(RuntimeError, match="map_location"):
        torch.load(path, weights_only=True)
    official = read_official(path)
    assert list(official.weights) == ["x"]
    assert torch.equal(official.weights["x"], torch.ones(3))


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_codes_pickled_by_any_numpy_or_as_tensors_or_lists(tmp_path, module: str) -> None:
    library = {
        "d": np.arange(3.0),
        "c": np.arange(3, dtype=np.float32)[None],
        "b": torch.arange(3),
        "a": [0.0, np.float32(1.0), np.float64(2.0)],
    }
    path = _saved(tmp_path / "a.pth", model={"x": torch.ones(1)}, shape_code_library=library)

    def by_another_numpy(pickled: bytes) -> bytes:
        return re.sub(rb"numpy\._?core\.multiarray", f"{module}.multiarray".encode(), pickled)

    _repickled(path, by_another_numpy)
    codes = read_official(path).codes
    assert list(codes) == ["a", "b", "c", "d"]
    for code in codes.values():
        assert torch.equal(code, torch.tensor([0.0, 1.0, 2.0]))


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"x": torch.zeros(1)}
    message = _refused(_saved(tmp_path / "a.pth", model=state, hparams=_Bomb()), "pickle refused")
    assert "mkdir" in message
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"model": _Bomb()}))
    _refused(tmp_path / "b.pth", "wrong format")
    assert not (tmp_path / "exploded").exists()


def test_files_of_other_kinds(tmp_path) -> None:
    _refused(tmp_path / "none.pth", "missing")
    _refused(tmp_path, "unreadable")
    (tmp_path / "text").write_text("weights are elsewhere")
    _refused(tmp_path / "text", "wrong format")
    torch.save({"model": {}}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    _refused(tmp_path / "legacy", "wrong format")
    _refused(_saved(tmp_path / "bare", weight=torch.zeros(1)), "wrong format")
    torch.save([1, 2], tmp_path / "list")
    _refused(tmp_path / "list", "wrong format")


def test_damaged_archives(tmp_path) -> None:
    path = _saved(tmp_path / "a.pth", model={"x": torch.arange(1000.0)})
    contents = bytearray(path.read_bytes())
    path.write_bytes(contents[:-50])
    _refused(path, "truncated")
    contents[contents.index(torch.arange(1000.0).numpy().tobytes()) + 777] ^= 4
    path.write_bytes(contents)
    assert "data/0" in _refused(path, "corrupt")


def _files(folder: Path, sizes: dict[str, float]) -> tuple[Path, Path]:
    """A `shape_code_lib.pkl` and an `objects_info.yaml`, as published separately."""
    codes = {name: np.random.default_rng(3).standard_normal(CODE + 2) for name in sizes}
    library, info = folder / "shape_code_lib.pkl", folder / "objects_info.yaml"
    library.write_bytes(pickle.dumps(codes))
    entry = "{name}:\n  blender_s_cad: [1.0, 1.0, 1.0]\n  recons_s_blender: {scale}\n"
    info.write_text("".join(entry.format(name=n, scale=1 / s) for n, s in sizes.items()))
    return library, info


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Model]:
    """The newer layout: a modulated last layer, normalised shapes, no hparams, a library apart."""
    folder = tmp_path_factory.mktemp("newer")
    weights = random_weights(modulated=True)
    path = _saved(folder / "newer.pth", model=weights)
    library, info = _files(folder, {"mug": 0.12, "bowl": 0.08})
    options = OfficialOptions("normalised", 56, library=library, objects_info=info)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_module, "_HALF_SIDES_M", (0.1,))
        patch.setattr(library_module, "_COARSE", 8)
        return weights, import_official(path, options=options)


def test_the_newer_layout_computes_the_same(newer) -> None:
    weights, model = newer
    config = model.network.config
    assert config.modulated_output and config.normalised_shapes and config.crop_rule == "tight"
    generator = torch.Generator().manual_seed(1)
    crops = torch.rand((2, 3, 56, 56), generator=generator)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        output = model.network(crops)
        v, code = released_outputs(weights, (crops - mean) / std)
    assert code.shape == (2, CODE + 2)
    torch.testing.assert_close(output.pnc, 2 * (v - 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(output.code, code, rtol=0, atol=1e-4)
    # In metres: s f(x / s), with the size of the unit at the end of the code.
    points = 0.1 * torch.randn((40, 3), generator=generator)
    whole = model.network.in_metres(output, torch.tensor([0.1, 0.3])).code
    for code_, s in zip(whole, (0.1, 0.3), strict=True):
        expected = s * released_sdf(weights, points / s, code_[:-1])
        sdf = model.network.decoder.sdf(points, code_)
        torch.testing.assert_close(sdf, expected, rtol=0, atol=1e-4)


def test_library_files_of_normalised_shapes_give_sizes(newer) -> None:
    library = newer[1].library
    assert library is not None and library.names == ("bowl", "mug")
    expected = np.random.default_rng(3).standard_normal(CODE + 2).astype(np.float32)
    assert np.array_equal(library.codes[0, :-1].numpy(), expected)
    assert library.codes[:, -1].tolist() == pytest.approx([0.08, 0.12])


def test_a_model_file_keeps_the_crop_rule_and_the_variants(newer, tmp_path) -> None:
    save_model(tmp_path / "m.safetensors", newer[1], torch.float32)
    read = load_model(tmp_path / "m.safetensors")
    assert read.network.config == newer[1].network.config
    assert read.library is not None and torch.equal(read.library.codes, newer[1].library.codes)


def test_settings_are_asked_for_where_the_file_has_none(tmp_path) -> None:
    bare = _saved(tmp_path / "a.pth", model=light_weights())
    message = _refused(bare, "incomplete")
    assert "--shapes" in message and "--crop-size" in message
    stated = {"normalized_recons": False, "backbone_input_res": (224, 224)}
    path = _saved(tmp_path / "b.pth", model=light_weights(), hparams=stated)
    assert "--shapes normalised" in _refused(path, "incompatible", shapes="normalised")
    assert "--crop-size 420" in _refused(path, "incompatible", crop_size=420)
    assert import_official(path).network.crop_size == 224


def test_sizes_are_asked_for_where_shapes_are_normalised(tmp_path) -> None:
    codes = {"mug": np.zeros(CODE, np.float32)}
    path = _saved(tmp_path / "a.pth", model=light_weights(), shape_code_library=codes)
    assert "--objects-info" in _refused(path, "incomplete", shapes="normalised")
    info = tmp_path / "objects_info.yaml"
    for text in ("[1, 2]", "mug: {recons_s_blender: 0}", "can: {recons_s_blender: 2}", "{: : ["):
        info.write_text(text)
        message = _refused(path, "incomplete", shapes="normalised", objects_info=info)
        assert str(info) in message
    model = import_official(path, options=OfficialOptions("normalised", with_library=False))
    assert model.library is None and model.network.decoder.normalised


def test_code_in_a_library_file_is_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _saved(tmp_path / "a.pth", model=light_weights())
    (tmp_path / "lib.pkl").write_bytes(pickle.dumps({"mug": _Bomb()}))
    _refused(path, "incomplete", shapes="metric", library=tmp_path / "lib.pkl")
    assert not (tmp_path / "exploded").exists()
