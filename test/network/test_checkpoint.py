"""Model files: what is written comes back, and an unsound file is refused by name."""

import dataclasses
import json
import os
import pickle

import pytest
import safetensors
import safetensors.torch
import torch

from crisp_ros.network.checkpoint import CheckpointError, Model, digest, load_model, save_model
from crisp_ros.network.library import ShapeLibrary, SurfaceColors
from crisp_ros.network.model import CrispNetwork, build_network
from crisp_ros.network.shape_prior import ShapePrior


@pytest.fixture(scope="module")
def model(tiny_network: CrispNetwork) -> Model:
    library = ShapeLibrary(
        names=("can", "mug"),
        codes=torch.randn(2, 128),
        lower=torch.tensor([[-0.03, -0.03, -0.06], [-0.05, -0.04, -0.05]]),
        upper=torch.tensor([[0.03, 0.03, 0.06], [0.05, 0.07, 0.05]]),
        symmetries=(torch.stack([torch.eye(4), torch.diag(torch.tensor([-1.0, -1, 1, 1]))]),)
        + (torch.eye(4)[None],),
    )
    header = {"recipe": {"steps": 3}, "data": "two shapes", "figures": {}, "version": "1.2.3"}
    return Model(tiny_network, library, header)


@pytest.fixture(scope="module")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save_model(path, model)
    return path


def _cause(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and caught.value.cause in str(caught.value)
    return caught.value.cause


def _rewritten(file, path, change) -> None:
    """Copy a model file through `change(tensors, metadata)`, checksum left as it was."""
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = safetensors.torch.load_file(file)
    change(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)


def test_a_saved_model_comes_back(model: Model, file) -> None:
    loaded = load_model(file)
    assert loaded.network.config == model.network.config
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.backbone.parameters())
    assert all(p.requires_grad for p in loaded.network.pnc_head.parameters())
    with safetensors.safe_open(file, "pt") as opened:
        stored = opened.get_tensor("network.shape_head.layers.0.weight")
    assert stored.dtype == torch.float16
    for key, value in model.header.items():
        assert loaded.header[key] == value
    saved = model.network.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == saved[name].dtype
        if name.startswith("decoder.") or tensor.ndim < 2:
            assert torch.equal(tensor, saved[name]), name
        else:
            torch.testing.assert_close(tensor, saved[name], rtol=5e-4, atol=1e-7)
    assert loaded.library is not None and loaded.library.names == model.library.names
    for part in ("codes", "lower", "upper"):
        assert torch.equal(getattr(loaded.library, part), getattr(model.library, part))
    for group, expected in zip(loaded.library.symmetries, model.library.symmetries, strict=True):
        assert torch.equal(group, expected)


def test_weights_lie_alike_whatever_the_layout_of_the_file(model: Model, tmp_path) -> None:
    """Where a tensor begins decides how sums are rounded."""
    for length in range(3):
        path = tmp_path / f"{length}.safetensors"
        save_model(path, Model(model.network, model.library, {"note": "x" * length}), torch.float32)
        loaded = load_model(path)
        tensors = [*loaded.network.state_dict().values(), loaded.library.codes]
        assert {tensor.data_ptr() % 64 for tensor in tensors} == {0}


def test_storing_in_float32_is_exact(model: Model, file, tmp_path) -> None:
    path = tmp_path / "exact.safetensors"
    save_model(path, Model(model.network, None, {}), storage=torch.float32)
    loaded = load_model(path)
    assert loaded.library is None
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name


def test_weights_beyond_half_precision_stay_exact(model: Model, tmp_path) -> None:
    large = Model(build_network("tiny"), None, {})
    with torch.no_grad():
        large.network.pnc_head.widen.weight[0, 0, 0, 0] = 1e5
    save_model(tmp_path / "large.safetensors", large)
    loaded = load_model(tmp_path / "large.safetensors")
    assert loaded.network.pnc_head.widen.weight[0, 0, 0, 0] == 1e5


def test_the_header_is_readable_without_the_weights(model: Model, file) -> None:
    with safetensors.safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["header"])
    assert header["config"]["design"] == "tiny"
    assert header["library"] == ["can", "mug"]
    assert header["recipe"] == {"steps": 3}


def test_a_failed_write_leaves_the_old_file(model: Model, file, tmp_path, monkeypatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_model(path, model)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_weights_that_are_not_finite_are_not_written(model: Model, tmp_path) -> None:
    broken = Model(build_network("tiny"), None, {})
    with torch.no_grad():
        broken.network.decoder.final_layer.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"network\.decoder\.final_layer\.bias"):
        save_model(tmp_path / "broken.safetensors", broken)
    with pytest.raises(ValueError, match="not JSON"):
        save_model(tmp_path / "x.safetensors", Model(model.network, None, {"data": object()}))
    assert not os.listdir(tmp_path)


def test_a_missing_file_and_a_folder(tmp_path) -> None:
    assert _cause(tmp_path / "none.safetensors") == "missing"
    assert _cause(tmp_path) == "unreadable"


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_a_truncated_file(file, tmp_path, kept: int) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(file.read_bytes()[:kept])
    assert _cause(path) == "truncated"


def test_a_flipped_bit_anywhere(file, tmp_path) -> None:
    contents = bytearray(file.read_bytes())
    path = tmp_path / "flipped.safetensors"
    for position in (contents.index(b"two shapes"), len(contents) // 2, len(contents) - 1):
        contents[position] ^= 1
        path.write_bytes(contents)
        contents[position] ^= 1
        assert _cause(path) == "corrupt"


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_refused_unread(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}}, "zip.pth")
    torch.save({"model": {}}, "legacy.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(_Bomb()))
    for name in ("zip.pth", "legacy.pth", "bomb.pkl"):
        assert _cause(tmp_path / name) == "pickle refused"
    assert not (tmp_path / "exploded").exists()


def test_other_formats_are_refused(file, tmp_path) -> None:
    path = tmp_path / "other"
    path.write_text("name: a YAML file, say\n")
    assert _cause(path) == "wrong format"
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    assert _cause(path) == "wrong format"
    _rewritten(file, path, lambda tensors, metadata: metadata.update(crisp_ros_format="0"))
    assert _cause(path) == "incompatible"


@pytest.mark.parametrize(
    "setting",
    [
        {"design": "resnet_9000"},
        {"decoder_hidden": 10**12},
        {"decoder_hidden": 16},
        {"shape_hidden": [24, 24]},
        {"surprise": 1},
    ],
)
def test_settings_that_do_not_fit_the_weights(model: Model, tmp_path, setting, monkeypatch) -> None:
    path = tmp_path / "other.safetensors"
    settings = {**model.network.config.to_json(), **setting}
    monkeypatch.setattr(type(model.network.config), "to_json", lambda config: settings)
    save_model(path, Model(model.network, None, {}))
    assert _cause(path) == "incompatible"


def test_a_library_of_another_decoder(model: Model, tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    library = ShapeLibrary(("a",), torch.zeros(1, 7), -torch.ones(1, 3), torch.ones(1, 3))
    save_model(path, Model(model.network, library, {}))
    assert _cause(path) == "incompatible"


def test_a_prior_over_shapes_comes_back(model: Model, tmp_path) -> None:
    prior = ShapePrior.of_codes(torch.randn(9, 128), 4)
    save_model(tmp_path / "m.safetensors", dataclasses.replace(model, prior=prior))
    loaded = load_model(tmp_path / "m.safetensors").prior
    assert torch.equal(loaded.mean, prior.mean) and torch.equal(loaded.basis, prior.basis)
    assert loaded.examples is None


def test_the_examples_of_a_prior_come_back(model: Model, tmp_path) -> None:
    codes, half = torch.randn(9, 128), torch.rand(9, 3) + 0.01
    prior = ShapePrior.of_codes(codes, 4).with_examples(codes, list("aabbbccca"), -half, half)
    save_model(tmp_path / "m.safetensors", dataclasses.replace(model, prior=prior))
    loaded = load_model(tmp_path / "m.safetensors").prior
    assert all(torch.equal(a, b) for a, b in zip(loaded.examples, prior.examples, strict=True))


def test_a_prior_of_another_decoder(model: Model, tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    prior = ShapePrior.of_codes(torch.randn(9, 64), 4)
    save_model(path, dataclasses.replace(model, prior=prior))
    assert _cause(path) == "incompatible"


def test_colours_of_shapes_come_back(model: Model, tmp_path) -> None:
    colors = SurfaceColors(torch.rand(6, 3), torch.randint(0, 256, (6, 3), dtype=torch.uint8))
    painted = dataclasses.replace(model, library=model.library.with_colors({"mug": colors}))
    save_model(tmp_path / "painted.safetensors", painted)
    loaded = load_model(tmp_path / "painted.safetensors").library.colors
    assert loaded[0] is None
    assert torch.equal(loaded[1].points, colors.points) and torch.equal(loaded[1].rgb, colors.rgb)


def test_shapes_added_after_the_training_stay_marked(model: Model, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    extended = dataclasses.replace(model, library=dataclasses.replace(model.library, added=1))
    save_model(path, extended)
    assert load_model(path).library.added == 1


def test_files_that_only_list_added_shapes_are_counted(model: Model, file, tmp_path) -> None:
    """Earlier versions wrote them so."""
    path = tmp_path / "model.safetensors"

    def change(tensors, metadata) -> None:
        header = json.loads(metadata["header"]) | {"added_shapes": [{"name": "mug"}]}
        del header["library_added"]
        metadata["header"] = json.dumps(header)
        metadata["sha256"] = digest(metadata["header"], tensors)

    _rewritten(file, path, change)
    assert load_model(path).library.added == 1
