"""The shape library: codes of the known shapes, with their bounding boxes and symmetries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder

_HALF_SIDES_M = (0.1, 0.2, 0.4, 0.8, 1.6)  # of the cubes in which to search for a shape
_COARSE = 32  # samples per side of the grid that locates the shape
_FINE = 48  # samples per side of the grid whose points are projected onto the surface
_NEWTON_STEPS = 4


class SurfaceColors(NamedTuple):
    """The colours of a shape.

    Attributes:
        points: (M, 3) spread evenly over its surface, object frame, metres.
        rgb: (M, 3) uint8 of these points.
    """

    points: Tensor
    rgb: Tensor

    def to(self, device: torch.device | str) -> SurfaceColors:
        """The same on another device."""
        return SurfaceColors(self.points.to(device), self.rgb.to(device))


@dataclasses.dataclass(frozen=True)
class ShapeLibrary:
    """A library of K known shapes.

    Attributes:
        names: K distinct names.
        codes: shape codes (K, C).
        lower: lower corners (K, 3) of the bounding boxes, object frame, metres.
        upper: upper corners (K, 3) of the bounding boxes, object frame, metres.
        symmetries: K tensors (S_k, 4, 4), the motions of the object frame that map shape k onto
            itself, including the identity; by default only the identity.
        colors: K of them, None where the colours of a shape are not known; by default none is.
        added: number of shapes at the end that were added after the training: the network does not
            know them, and its coordinates of them mean nothing.

    Raises:
        ValueError: the parts are inconsistent.
    """

    names: tuple[str, ...]
    codes: Tensor
    lower: Tensor
    upper: Tensor
    symmetries: tuple[Tensor, ...] = ()
    colors: tuple[SurfaceColors | None, ...] = ()
    added: int = 0

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or len(set(self.names)) != count:
            raise ValueError(f"a shape library needs distinct names, got {self.names}")
        if not self.symmetries:
            identity = torch.eye(4, device=self.codes.device)[None]
            object.__setattr__(self, "symmetries", (identity,) * count)
        if not self.colors:
            object.__setattr__(self, "colors", (None,) * count)
        if self.codes.ndim != 2 or len(self.codes) != count:
            raise ValueError(
                f"codes have shape {tuple(self.codes.shape)}: expected ({count}, C), a row per name"
            )
        for side in ("lower", "upper"):
            shape = tuple(getattr(self, side).shape)
            if shape != (count, 3):
                raise ValueError(f"{side} has shape {shape}: expected ({count}, 3)")
        if not (torch.isfinite(self.codes).all() and bool((self.lower < self.upper).all())):
            raise ValueError("a shape library needs finite codes and boxes with lower < upper")
        shapes = [tuple(group.shape) for group in self.symmetries]
        if len(shapes) != count or any(
            len(shape) != 3 or shape[0] == 0 or shape[1:] != (4, 4) for shape in shapes
        ):
            raise ValueError(
                f"symmetries have shapes {shapes}: expected {count} of (S, 4, 4) with S >= 1"
            )
        _check_colors(self.colors, count)
        if not (isinstance(self.added, int) and 0 <= self.added < count):
            raise ValueError(f"{self.added} of {count} shapes were added: expected fewer than all")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def trained(self) -> ShapeLibrary:
        """The shapes that the network knows, with the same indices."""
        return self.subset(self.names[: len(self) - self.added]) if self.added else self

    @property
    def diameters(self) -> Tensor:
        """Diagonals of the bounding boxes (K,), metres; 1 / d_k of eq. (10)."""
        return torch.linalg.norm(self.upper - self.lower, dim=-1)

    def with_shape(
        self,
        name: str,
        code: Tensor,
        lower: Tensor,
        upper: Tensor,
        symmetries: Tensor | None = None,
        colors: SurfaceColors | None = None,
        trained: bool = True,
    ) -> ShapeLibrary:
        """Return a copy of the library with an additional shape.

        Args:
            name: name of the shape, not yet in the library.
            code: (C,).
            lower, upper: (3,) corners of its bounding box, object frame, metres.
            symmetries: (S, 4, 4); None for the identity only.
            colors: of its surface, if known.
            trained: whether the network knows it; what follows added shapes counts as added.

        Raises:
            ValueError: the name already exists, or the parts do not match the library's.
        """
        if name in self.names:
            raise ValueError(f"the shape library already has a shape named {name!r}")
        group = torch.eye(4, device=self.codes.device)[None] if symmetries is None else symmetries
        return ShapeLibrary(
            (*self.names, name),
            torch.cat([self.codes, code[None]]),
            torch.cat([self.lower, lower[None]]),
            torch.cat([self.upper, upper[None]]),
            (*self.symmetries, group),
            (*self.colors, colors),
            self.added if trained and self.added == 0 else self.added + 1,
        )

    def subset(self, names: Sequence[str]) -> ShapeLibrary:
        """Return the library of some of its shapes, in the given order, the added ones last.

        Raises:
            ValueError: a name is not in the library.
        """
        if unknown := sorted(set(names) - set(self.names)):
            raise ValueError(f"the shape library has no {', '.join(unknown)}")
        rows = [self.names.index(name) for name in names]
        return ShapeLibrary(
            tuple(names),
            self.codes[rows],
            self.lower[rows],
            self.upper[rows],
            tuple(self.symmetries[row] for row in rows),
            tuple(self.colors[row] for row in rows),
            sum(row >= len(self) - self.added for row in rows),
        )

    def to(self, device: torch.device | str) -> ShapeLibrary:
        """Return a copy of the library on another device."""
        return ShapeLibrary(
            self.names,
            self.codes.to(device),
            self.lower.to(device),
            self.upper.to(device),
            tuple(group.to(device) for group in self.symmetries),
            tuple(part and part.to(device) for part in self.colors),
            self.added,
        )

    def with_colors(self, colors: Mapping[str, SurfaceColors]) -> ShapeLibrary:
        """The library with the colours of some of its shapes, by name.

        Raises:
            ValueError: a name is not in the library, or colours do not fit.
        """
        unknown = sorted(set(colors) - set(self.names))
        if unknown:
            raise ValueError(f"the shape library has no {', '.join(unknown)}")
        merged = (colors.get(n, old) for n, old in zip(self.names, self.colors, strict=True))
        return dataclasses.replace(self, colors=tuple(merged))


def _check_colors(colors: tuple[SurfaceColors | None, ...], count: int) -> None:
    if len(colors) != count:
        raise ValueError(f"colours of {len(colors)} shapes: expected {count}, None where unknown")
    for part in colors:
        if part is None:
            continue
        points, rgb = part
        if points.ndim != 2 or points.shape[1:] != (3,) or rgb.shape != points.shape:
            raise ValueError(
                f"colours have points {tuple(points.shape)} and rgb {tuple(rgb.shape)}: expected "
                "both (M, 3)"
            )
        if rgb.dtype != torch.uint8 or not torch.isfinite(points).all():
            raise ValueError("colours need finite points and rgb in uint8")


class ShapeBoxes(NamedTuple):
    """Axis-aligned bounding boxes of decoded shapes, object frame, metres.

    Attributes:
        lower: (K, 3) lower corners.
        upper: (K, 3) upper corners.
        closed: (K,) bool, false if no closed surface was found; the box is then the whole
            searched cube.
    """

    lower: Tensor
    upper: Tensor
    closed: Tensor


def shape_boxes(
    decoder: ShapeDecoder, codes: Tensor, on_shape: Callable[[int, int], None] | None = None
) -> ShapeBoxes:
    """Compute the bounding boxes of decoded shapes; takes about a second per shape.

    Searches growing cubes around the origin until the largest connected body is inside (a decoder
    is only trained near its shapes and may have other surfaces far from them), then projects
    samples near the surface of that body onto it with Newton steps.

    Args:
        decoder: decoder of the codes.
        codes: (K, C).
        on_shape: progress callback, called after every shape with the number done and K.
    """
    boxes = []
    for code in codes.detach():
        boxes.append(_shape_box(decoder, code))
        if on_shape is not None:
            on_shape(len(boxes), len(codes))
    corners = torch.stack([b if b is not None else _searched_cube(codes) for b in boxes])
    closed = torch.tensor([b is not None for b in boxes], device=codes.device)
    return ShapeBoxes(corners[:, 0].contiguous(), corners[:, 1].contiguous(), closed)


def _searched_cube(codes: Tensor) -> Tensor:
    half = codes.new_tensor([_HALF_SIDES_M[-1]]).expand(3)
    return torch.stack([-half, half])


def _shape_box(decoder: ShapeDecoder, code: Tensor) -> Tensor | None:
    """Return the corners (2, 3) of one shape's box, or None if no searched cube encloses it."""
    for half in _HALF_SIDES_M:
        cell = 2 * half / (_COARSE - 1)
        cube = code.new_tensor([[-half] * 3, [half] * 3])
        sdf = decoder.sdf(_grid(cube, _COARSE), code).reshape((_COARSE,) * 3)
        # Include half a cell around the surface, so that thin walls between samples stay connected.
        bodies, count = ndimage.label((sdf < cell / 2).cpu().numpy())
        if count == 0:
            continue
        body = np.argwhere(bodies == np.bincount(bodies.ravel())[1:].argmax() + 1)
        first, last = body.min(axis=0), body.max(axis=0)
        if first.min() == 0 or last.max() == _COARSE - 1:
            continue
        around = code.new_tensor(np.stack([first - 1, last + 1])) * cell - half
        return _refined_box(decoder, code, around)
    return None


def _refined_box(decoder: ShapeDecoder, code: Tensor, around: Tensor) -> Tensor | None:
    """Return the corners (2, 3) of the surface in the box `around` (2, 3); None without one."""
    points = _grid(around, _FINE)
    cell = (around[1] - around[0]).max() / (_FINE - 1)
    points = points[decoder.sdf(points, code).abs() < 2 * cell]
    start = points
    for _ in range(_NEWTON_STEPS):
        sdf, gradient = decoder.sdf_and_gradient(points, code)
        slope = gradient.square().sum(dim=-1).clamp(min=1e-2)
        points = points - (sdf / slope)[:, None] * gradient
    arrived = decoder.sdf(points, code).abs() < 0.1 * cell
    arrived &= torch.linalg.norm(points - start, dim=-1) < 4 * cell
    points = points[arrived]
    if len(points) == 0:
        return None
    box = torch.stack([points.amin(dim=0), points.amax(dim=0)])
    return box if bool((box[0] < box[1]).all()) else None


def _grid(corners: Tensor, samples: int) -> Tensor:
    """Return the points (samples^3, 3) of a regular grid in a box with corners (2, 3)."""
    steps = torch.linspace(0.0, 1.0, samples, device=corners.device, dtype=corners.dtype)
    unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    return corners[0] + unit * (corners[1] - corners[0])
