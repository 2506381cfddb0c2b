"""Import of the authors' checkpoints: names, values, outputs, and files that must be refused."""

import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.network import library as library_module
from crisp_ros.network.checkpoint import CheckpointError, Model
from crisp_ros.network.official import import_official, read_official

CODE = 2560
TOTAL = 39_114_388


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released state dict."""
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.cls_token": (1, 1, 384),
        "backbone.pos_embed": (1, 1370, 384),
        "backbone.mask_token": (1, 384),
    }

    def layer(name: str, *weight: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = weight
        if bias:
            # A transposed convolution is square here, so that both its sides are its bias's.
            shapes[f"{name}.bias"] = weight[:1]

    layer("backbone.patch_embed.proj", 384, 3, 14, 14)
    layer("backbone.norm", 384)
    for i in range(12):
        block = f"backbone.blocks.{i}"
        layer(f"{block}.norm1", 384)
        layer(f"{block}.attn.qkv", 1152, 384)
        layer(f"{block}.attn.proj", 384, 384)
        layer(f"{block}.norm2", 384)
        layer(f"{block}.mlp.fc1", 1536, 384)
        layer(f"{block}.mlp.fc2", 384, 1536)
        shapes[f"{block}.ls1.gamma"] = shapes[f"{block}.ls2.gamma"] = (384,)
    for i, channels in enumerate((48, 96, 192, 384)):
        reassemble = "nocs_net.reassemble_blocks"
        layer(f"{reassemble}.projects.{i}", channels, 384, 1, 1, bias=False)
        layer(f"{reassemble}.readout_projects.{i}.0", 384, 768)
        if i != 2:
            kernel = (4, 2, 0, 3)[i]
            layer(f"{reassemble}.resize_layers.{i}", channels, channels, kernel, kernel)
        layer(f"nocs_net.convs.{i}", 256, channels, 3, 3, bias=False)
        fusion = f"nocs_net.fusion_blocks.{i}"
        layer(f"{fusion}.project", 256, 256, 1, 1)
        for unit in (1, 2)[i == 0 :]:
            for j in (1, 2):
                layer(f"{fusion}.res_conv_unit{unit}.conv{j}", 256, 256, 3, 3, bias=False)
                layer(f"{fusion}.res_conv_unit{unit}.bn{j}", 256)
    layer("nocs_net.project", 256, 256, 3, 3)
    layer("nocs_net.conv_nocs.head.0", 128, 256, 3, 3)
    layer("nocs_net.conv_nocs.head.2", 128)
    layer("nocs_net.conv_nocs.head.3", 32, 128, 3, 3)
    layer("nocs_net.conv_nocs.head.5", 3, 32, 1, 1)
    for i in range(5):
        layer(f"recons_net.filmed_sdf.{i}.0.layer", 256, 256 if i else 3)
    layer("recons_net.final_layer", 1, 256)
    for i, width in ((0, 1920), (3, 512), (6, 512)):
        layer(f"recons_backbone_adaptor.net.{i}", 512, width)
        layer(f"recons_backbone_adaptor.net.{i + 1}", 512)
    layer("recons_backbone_adaptor.net.9", CODE, 512)
    return shapes


def released_outputs(w: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """PNC and code of normalised images (B, 3, S, S), computed layer by layer from `w`."""
    side = images.shape[-1]
    grid = side // 14

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **options)

    def group_norm(x: Tensor, name: str) -> Tensor:
        return F.group_norm(x, 4, w[f"{name}.weight"], w[f"{name}.bias"])

    def residual(x: Tensor, name: str) -> Tensor:
        y = group_norm(conv(x.relu(), f"{name}.conv1", padding=1), f"{name}.bn1")
        return x + group_norm(conv(y.relu(), f"{name}.conv2", padding=1), f"{name}.bn2")

    patches = conv(images, "backbone.patch_embed.proj", stride=14).flatten(2).mT
    trained = w["backbone.pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    ratio = (grid + 0.1) / 37
    position = F.interpolate(trained, scale_factor=(ratio, ratio), mode="bicubic")
    tokens = torch.cat(
        [
            (w["backbone.cls_token"] + w["backbone.pos_embed"][:, :1]).expand(len(images), 1, 384),
            patches + position.flatten(2).mT,
        ],
        dim=1,
    )
    levels = []
    for i in range(12):
        block = f"backbone.blocks.{i}"
        qkv = linear(norm(tokens, f"{block}.norm1", 1e-6), f"{block}.attn.qkv")
        heads = []
        for q, k, v in zip(
            *(part.split(64, dim=-1) for part in qkv.split(384, dim=-1)), strict=True
        ):
            heads.append(((q @ k.mT) / 8).softmax(dim=-1) @ v)
        mixed = linear(torch.cat(heads, dim=-1), f"{block}.attn.proj")
        tokens = tokens + w[f"{block}.ls1.gamma"] * mixed
        hidden = linear(norm(tokens, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        tokens = tokens + w[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
        if i in (2, 5, 8, 11):
            levels.append(tokens)

    code = torch.cat([level[:, 0] for level in levels] + [tokens[:, 1:].mean(dim=1)], dim=1)
    for i in (0, 3, 6):
        net = "recons_backbone_adaptor.net"
        code = norm(linear(code, f"{net}.{i}"), f"{net}.{i + 1}", 1e-5).relu()
    code = linear(code, "recons_backbone_adaptor.net.9")

    maps = []
    for i, level in enumerate(levels):
        reassemble = "nocs_net.reassemble_blocks"
        readout = torch.cat([level[:, 1:], level[:, :1].expand(-1, grid**2, -1)], dim=-1)
        x = F.gelu(linear(readout, f"{reassemble}.readout_projects.{i}.0"))
        x = conv(x.mT.reshape(-1, 384, grid, grid), f"{reassemble}.projects.{i}")
        resize = f"{reassemble}.resize_layers.{i}"
        if i < 2:
            stride = 4 - 2 * i
            x = F.conv_transpose2d(x, w[f"{resize}.weight"], w[f"{resize}.bias"], stride=stride)
        elif i == 3:
            x = conv(x, resize, stride=2, padding=1)
        maps.append(conv(x, f"nocs_net.convs.{i}", padding=1))
    x = maps[3]
    for i in range(4):
        fusion = f"nocs_net.fusion_blocks.{i}"
        if i:
            skip = F.interpolate(maps[3 - i], x.shape[-2:], mode="bilinear", align_corners=False)
            x = x + residual(skip, f"{fusion}.res_conv_unit1")
        x = residual(x, f"{fusion}.res_conv_unit2")
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = conv(x, f"{fusion}.project")
    head = "nocs_net.conv_nocs.head"
    x = conv(conv(x, "nocs_net.project", padding=1), f"{head}.0", padding=1)
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=True)
    x = conv(group_norm(x, f"{head}.2"), f"{head}.3", padding=1).relu()
    return conv(x, f"{head}.5"), code


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random weights under the released names, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    drawn = {}
    for name, shape in released_shapes().items():
        if len(shape) > 1:
            scale = 0.5 if name.endswith(("token", "embed")) else math.prod(shape[1:]) ** -0.5
            drawn[name] = scale * torch.randn(shape, generator=generator)
        elif name.endswith(("weight", "gamma")):
            drawn[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            drawn[name] = 0.1 * torch.randn(shape, generator=generator)
    return drawn


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


def _refused(path: Path, cause: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_official(path)
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
    y = points
    for i, film in enumerate(code.split(512)):
        name = f"recons_net.filmed_sdf.{i}.0.layer"
        y = y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        y = torch.sin(film[:256] * y + film[256:])
    sdf = y @ weights["recons_net.final_layer.weight"][0] + weights["recons_net.final_layer.bias"]
    torch.testing.assert_close(model.network.decoder.sdf(points, code), sdf, rtol=0, atol=1e-5)


def test_library_is_sorted_by_name_and_open_shapes_are_named(codes, model: Model) -> None:
    assert model.library is not None and model.library.names == ("bowl", "mug")
    for name, code in zip(model.library.names, model.library.codes, strict=True):
        assert np.array_equal(code.numpy(), codes[name].astype(np.float32).ravel())
    assert model.header["open_shapes"] == ["bowl", "mug"]
    assert torch.isfinite(model.library.diameters).all()


def test_a_checkpoint_without_library(tmp_path) -> None:
    model = import_official(_saved(tmp_path / "a.pth", model=light_weights()))
    assert model.library is None
    assert model.network.crop_size == 420


def test_missing_and_unexpected_weights_are_named(weights, tmp_path) -> None:
    other = {name: torch.zeros(1) for name in weights}
    other["nocs_net.conv_nocs.headx.head.0.weight"] = other.pop("nocs_net.conv_nocs.head.0.weight")
    other["recons_net.final_layer.weight"] = torch.zeros(1, 128)
    message = _refused(_saved(tmp_path / "a.pth", model=other), "incompatible")
    assert "1 missing (nocs_net.conv_nocs.head.0.weight)" in message
    assert "1 unexpected (nocs_net.conv_nocs.headx.head.0.weight)" in message
    assert "of another shape" in message


@pytest.mark.parametrize(
    "setting",
    [
        {"normalized_recons": True},
        {"nocs_network_type": "dpt_gnfusion_gnnocs_sigmoid"},
        {"nocs_lateral_layers_type": "last_four"},
        {"recons_shape_code_normalization": "sphere"},
        {"backbone_input_res": (420, 300)},
        {"backbone_input_res": (100, 100)},
    ],
)
def test_variants_that_compute_something_else_are_refused(tmp_path, setting) -> None:
    path = _saved(tmp_path / "a.pth", model={"x": torch.zeros(1)}, hparams=setting)
    assert next(iter(setting)) in _refused(path, "incompatible")


def test_a_code_of_another_length(tmp_path) -> None:
    library = {"can": np.zeros(256, dtype=np.float32)}
    path = _saved(tmp_path / "a.pth", model=light_weights(), shape_code_library=library)
    assert "can has length 256" in _refused(path, "incompatible")


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
