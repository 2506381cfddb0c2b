"""Makes shapes.safetensors: a small decoder and the codes of the eight analytic test shapes.

Run from the repository root: python test/correction/fit_shapes.py  (a few minutes on one core).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from analytic import AnalyticShape, household  # noqa: E402

from crisp_ros.network.decoder import ShapeDecoder  # noqa: E402

FILE = Path(__file__).with_name("shapes.safetensors")
HIDDEN = 96
STEPS = 4000


def training_points(shape: AnalyticShape, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (M, 3) on, near and around the surface and their distances (M,)."""
    on = shape.surface(20000, generator)
    near = on + 0.008 * torch.randn(on.shape, generator=generator, dtype=on.dtype)
    far = on + 0.03 * torch.randn(on.shape, generator=generator, dtype=on.dtype)
    room = 0.4 * (torch.rand(on.shape, generator=generator, dtype=on.dtype) - 0.5)
    points = torch.cat((on, near, far, room))
    return points.float(), shape.sdf(points).float()


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    shapes = household()
    data = [training_points(shape, generator) for shape in shapes]
    points, distances = (torch.stack(parts) for parts in zip(*data, strict=True))
    decoder = ShapeDecoder(hidden=HIDDEN)
    with torch.no_grad():
        decoder.film_layers[0].weight *= 4.0  # sharp edges in few steps
    start = torch.randn(len(shapes), decoder.code_dim) * 0.1
    # Scales around one and shifts around zero: the layers start as plain sine layers.
    start.unflatten(-1, (-1, 2, HIDDEN))[..., 0, :] += 1.0
    codes = torch.nn.Parameter(start)
    parameters = [
        {"params": decoder.parameters(), "lr": 2e-3},
        {"params": [codes], "lr": 2e-3},
    ]
    optimiser = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[2e-3, 2e-3], total_steps=STEPS, pct_start=0.05
    )
    for _ in range(STEPS):
        pick = torch.randint(points.shape[1], (512,), generator=generator)
        x = points[:, pick].requires_grad_(True)
        sdf = decoder(x, codes)
        (gradient,) = torch.autograd.grad(sdf.sum(), x, create_graph=True)
        misfit = (sdf - distances[:, pick]).abs().mean()
        eikonal = (gradient.norm(dim=-1) - 1.0).abs().mean()
        optimiser.zero_grad()
        (3000.0 * misfit + 10.0 * eikonal).backward()
        optimiser.step()
        schedule.step()
    tensors = {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    tensors["codes"] = codes.detach()
    tensors = {name: value.half().contiguous() for name, value in tensors.items()}
    save_file(tensors, FILE)
    decoder.load_state_dict(
        {n.removeprefix("decoder."): v.float() for n, v in tensors.items() if n != "codes"}
    )
    for k, shape in enumerate(shapes):
        surface = shape.surface(5000, generator)
        error = decoder.sdf(surface.float(), tensors["codes"][k].float()).abs()
        sys.stdout.write(
            f"{shape.name}: |sdf| on the surface mean {1e3 * error.mean():.2f} mm, "
            f"99 % {1e3 * error.quantile(0.99):.2f} mm\n"
        )


if __name__ == "__main__":
    main()
