import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from crisp_ros.network.compact import ResNetTrunk
from crisp_ros.training.pretrained import load_imagenet_trunk

STAGES = ((2, "abc", 64, 256), (3, "abcd", 128, 512), (4, "abcdef", 256, 1024))


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """A random ResNet-50 in the layers format of TensorFlow.js: (folder, arrays by name)."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"conv1": (7, 7, 3, 64)}
    inputs = 64
    for number, letters, inner, outer in STAGES:
        for letter in letters:
            name = f"res{number}{letter}_branch"
            shapes[name + "2a"] = (1, 1, inputs, inner)
            shapes[name + "2b"] = (3, 3, inner, inner)
            shapes[name + "2c"] = (1, 1, inner, outer)
            if letter == "a":
                shapes[name + "1"] = (1, 1, inputs, outer)
            inputs = outer
    arrays = {}
    for name, shape in shapes.items():
        fan_in = np.prod(shape[:3])
        arrays[f"{name}/kernel"] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        arrays[f"{name}/bias"] = rng.normal(0, 0.1, shape[3]).astype(np.float32)
        norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn")
        for part, (low, high) in {
            "gamma": (0.5, 1.5),
            "beta": (-0.2, 0.2),
            "moving_mean": (-0.2, 0.2),
            "moving_variance": (0.5, 1.5),
        }.items():
            arrays[f"{norm}/{part}"] = rng.uniform(low, high, shape[3]).astype(np.float32)
    folder = tmp_path_factory.mktemp("keras")
    raw = b"".join(a.tobytes() for a in arrays.values())
    cut = len(raw) // 8 * 4
    (folder / "a.bin").write_bytes(raw[:cut])
    (folder / "b.bin").write_bytes(raw[cut:])
    entries = [{"name": k, "shape": list(a.shape), "dtype": "float32"} for k, a in arrays.items()]
    manifest = [{"paths": ["a.bin", "b.bin"], "weights": entries}]
    (folder / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    return folder, arrays


def keras_layer(x, arrays, name, stride=1, padding=0):
    """Convolution and batch norm kept apart, as Keras runs them."""
    norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn")
    kernel = torch.from_numpy(arrays[f"{name}/kernel"]).permute(3, 2, 0, 1)
    x = F.conv2d(x, kernel, torch.from_numpy(arrays[f"{name}/bias"]), stride, padding)
    get = lambda part: torch.from_numpy(arrays[f"{norm}/{part}"])  # noqa: E731
    return F.batch_norm(
        x, get("moving_mean"), get("moving_variance"), get("gamma"), get("beta"), eps=1e-3
    )


def test_the_trunk_equals_keras_on_bgr_input(keras):
    folder, arrays = keras
    trunk = ResNetTrunk()
    load_imagenet_trunk(trunk, folder)
    rgb = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        ours = trunk((rgb - mean[:, None, None]) / std[:, None, None]).levels
        bgr = ((rgb - mean[:, None, None]) * 255.0).flip(1)
        x = F.relu(keras_layer(bgr, arrays, "conv1", 2, 3))
        expected = [x]
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        for (number, letters, _, _), stage in zip(STAGES, trunk.stages, strict=True):
            for letter in letters[: len(stage)]:
                name = f"res{number}{letter}_branch"
                stride = 2 if letter == "a" and number > 2 else 1
                y = F.relu(keras_layer(x, arrays, name + "2a", stride))
                y = F.relu(keras_layer(y, arrays, name + "2b", 1, 1))
                y = keras_layer(y, arrays, name + "2c")
                skip = keras_layer(x, arrays, name + "1", stride) if letter == "a" else x
                x = F.relu(y + skip)
            expected.append(x)
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-3 * b.abs().max()


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="model.json"):
        load_imagenet_trunk(ResNetTrunk(), tmp_path)
