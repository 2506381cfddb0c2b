"""Checkpoints of the authors' code, made here: names, shapes, and what their network computes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CODE = 2560


def released_shapes(modulated: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released state dict, or of that with a modulated last layer."""
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
    layer("recons_net.final_layer" + (".layer" if modulated else ""), 1, 256)
    for i, width in ((0, 1920), (3, 512), (6, 512)):
        layer(f"recons_backbone_adaptor.net.{i}", 512, width)
        layer(f"recons_backbone_adaptor.net.{i + 1}", 512)
    layer("recons_backbone_adaptor.net.9", CODE + 2 * modulated, 512)
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


def released_sdf(w: dict[str, Tensor], points: Tensor, code: Tensor) -> Tensor:
    """Signed distances (N,) of points (N, 3), layer by layer; the last may be modulated too."""
    y = points
    for i, film in enumerate(code[:CODE].split(512)):
        name = f"recons_net.filmed_sdf.{i}.0.layer"
        y = y @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        y = torch.sin(film[:256] * y + film[256:])
    if len(code) == CODE:
        name = "recons_net.final_layer"
        return y @ w[f"{name}.weight"][0] + w[f"{name}.bias"]
    name = "recons_net.final_layer.layer"
    return code[CODE] * (y @ w[f"{name}.weight"][0] + w[f"{name}.bias"]) + code[CODE + 1]


def random_weights(modulated: bool = False) -> dict[str, Tensor]:
    """Random weights under the released names, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    drawn = {}
    for name, shape in released_shapes(modulated).items():
        if len(shape) > 1:
            scale = 0.5 if name.endswith(("token", "embed")) else math.prod(shape[1:]) ** -0.5
            drawn[name] = scale * torch.randn(shape, generator=generator)
        elif name.endswith(("weight", "gamma")):
            drawn[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            drawn[name] = 0.1 * torch.randn(shape, generator=generator)
    return drawn
