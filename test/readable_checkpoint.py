"""A checkpoint of the authors' newer layout whose network answers one frame rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from analytic_scene import COLOUR_RANGE_M, Rendered
from known import Known
from released_layout import random_weights
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.model import CrispNetwork
from crisp_ros.network.official import OfficialOptions, import_official
from crisp_ros.observation.observe import ObservationSettings, observe

CROP = 112


def write_checkpoint(path: Path, known: Known, name: str, scene: Rendered, size_m: float) -> None:
    """Write a checkpoint of normalised shapes, with a modulated last layer and without hparams.

    Backbone and heads are random, but for the last layers: that of the shape head gives the code of
    a known shape, that of the PNC head is fitted to the coordinates that the frame has as colours.

    Args:
        path: of the checkpoint.
        known: whose decoder it gets, narrower than the released one.
        name: of the shape that the frame shows.
        scene: from `rendered`, with one object.
        size_m: metres per unit of the checkpoint's shapes.
    """
    weights = smooth_weights(modulated=True)
    _set_decoder(weights, known.decoder, size_m)
    weights["recons_backbone_adaptor.net.9.weight"] *= 0.0
    weights["recons_backbone_adaptor.net.9.bias"] = unit_code(known, name, size_m)
    torch.save({"model": weights}, path)
    network = import_official(path, options=OfficialOptions("normalised", CROP)).network
    _set_last_layers(weights, *_fitted(network, scene, size_m))
    torch.save({"model": weights}, path)


def unit_code(known: Known, name: str, size_m: float) -> Tensor:
    """Return the code of a shape in the checkpoint that `write_checkpoint` writes."""
    return _code(known.codes(name)[0], known.decoder, size_m)


def smooth_weights(modulated: bool = False) -> dict[str, Tensor]:
    """Random weights whose features vary slowly over the crop, as coordinates do."""
    weights = random_weights(modulated)
    weights["backbone.pos_embed"] = _smooth_embedding()
    weights["backbone.patch_embed.proj.weight"] *= 0.1
    return weights


def _smooth_embedding() -> Tensor:
    """Position embeddings (1, 1370, 384) that vary slowly, as coordinates do."""
    generator = torch.Generator().manual_seed(5)
    v, u = torch.meshgrid(*[torch.linspace(0, 1, 37)] * 2, indexing="ij")
    frequency = 4 * torch.randn((384, 2), generator=generator)
    phase = 6.3 * torch.rand(384, generator=generator)
    waves = torch.sin(u[..., None] * frequency[:, 0] + v[..., None] * frequency[:, 1] + phase)
    return torch.cat([torch.zeros(1, 384), waves.flatten(0, 1)])[None]


def _set_decoder(weights: dict[str, Tensor], decoder: ShapeDecoder, size_m: float) -> None:
    """Write f(s u) / s of a narrower decoder; the rest of the layers stays zero."""
    for i, layer in enumerate(decoder.film_layers):
        prefix = f"recons_net.filmed_sdf.{i}.0.layer"
        scale = size_m if i == 0 else 1.0
        _padded(weights[f"{prefix}.weight"], scale * layer.weight)
        _padded(weights[f"{prefix}.bias"], layer.bias)
    prefix = "recons_net.final_layer.layer"
    _padded(weights[f"{prefix}.weight"], decoder.final_layer.weight)
    weights[f"{prefix}.bias"] = decoder.final_layer.bias.detach().clone()


def _padded(target: Tensor, values: Tensor) -> None:
    target.zero_()
    target[tuple(slice(0, n) for n in values.shape)] = values.detach()


def _code(code: Tensor, decoder: ShapeDecoder, size_m: float) -> Tensor:
    films = torch.zeros(5, 2, 256)
    films[..., : decoder.hidden] = code.view(5, 2, decoder.hidden)
    return torch.cat([films.flatten(), torch.tensor([1.0 / size_m, 0.0])])


def _set_last_layers(weights: dict[str, Tensor], weight: Tensor, bias: Tensor) -> None:
    """Let the head predict u = (z + 1) / 2 of z = weight x + bias, x being its 128 channels."""
    head, lift = "nocs_net.conv_nocs.head", 100.0  # the ReLU between the layers lets all pass
    first, last = weights[f"{head}.3.weight"].zero_(), weights[f"{head}.5.weight"].zero_()
    first[:3, :, 1, 1] = weight
    weights[f"{head}.3.bias"] = torch.full((32,), lift)
    last[range(3), range(3)] = 0.5
    weights[f"{head}.5.bias"] = (bias + 1 - lift) / 2


def _fitted(network: CrispNetwork, scene: Rendered, size_m: float) -> tuple[Tensor, Tensor]:
    """Weight (3, 128) and bias (3,) that give the frame's coordinates, in units."""
    seen = observe(scene.frame, ObservationSettings(), CROP, crop_rule="tight")
    inputs = []
    hook = network.pnc_head.output.conv2.register_forward_pre_hook(
        lambda _, given: inputs.append(given[0])
    )
    with torch.no_grad():
        network(seen.crops)
    hook.remove()
    x, y, width, height = (int(value) for value in seen.boxes[0])
    mask = scene.frame.labels[y : y + height, x : x + width] > 0
    rows = ((np.arange(CROP) + 0.5) * height / CROP).astype(int)
    columns = ((np.arange(CROP) + 0.5) * width / CROP).astype(int)
    used = torch.from_numpy(mask[np.ix_(rows, columns)])
    target = ((seen.crops[0] - 0.5) * COLOUR_RANGE_M / size_m)[:, used].T.double()
    features = torch.cat([inputs[0][0][:, used].T, torch.ones(int(used.sum()), 1)], dim=1).double()
    ridge = 1e-4 * len(features) * torch.eye(features.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(features.T @ features + ridge, features.T @ target)
    return solved[:-1].T.float(), solved[-1].float()
