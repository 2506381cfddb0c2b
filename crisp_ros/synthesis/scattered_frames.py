"""RGB-D frames of scattered objects as a camera of a given kind would deliver them, with truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.cluster import MapFunction
from crisp_ros.data.bop import BopFrame, BopInstance
from crisp_ros.observation.frame import Camera

from .backgrounds import background
from .crop_set import composite
from .renderer import Light, Placement, Renderer, Scene
from .scenes import ScatterSettings, Viewpoints, scattered_scene
from .sensor import ColourSensor, DepthSensor, linear_light, sensed_colour, sensed_depth

_FRAME_PX = (640, 480)
_MIN_VISIBLE_PX = 900
_BLOCK = 8  # frames for which the meshes go to the renderer once
_WALL_M = (1.6, 2.4)  # behind the objects


@dataclass(frozen=True)
class DomainSettings:
    """A place and a camera.

    Attributes:
        scatter: how objects are drawn; its distances are those to the camera.
        colour, depth: the sensors; the depth of objects is as good in the dark.
        side_light: share of the light that comes from one low lamp next to the objects.
    """

    scatter: ScatterSettings = field(default_factory=ScatterSettings)
    colour: ColourSensor = field(default_factory=ColourSensor)
    depth: DepthSensor = field(default_factory=DepthSensor)
    side_light: float = 0.0


# A room at dusk, one warm lamp next to the table, and a small, unfocused camera that raises its
# gain: what the training's colour jitter, blur and noise do not reach.
DOMAINS: Mapping[str, DomainSettings] = {
    "day": DomainSettings(),
    "dusk": DomainSettings(
        colour=ColourSensor(
            blur_px=1.8,
            exposure=0.35,
            white_balance=(1.5, 0.95, 0.5),
            full_well=150.0,
            read_noise=0.012,
        ),
        side_light=0.8,
    ),
}


def scattered_frames(
    models: Mapping[int, trimesh.Trimesh],
    viewpoints: Sequence[Viewpoints],
    settings: DomainSettings,
    frames: int,
    seed: int,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
    mapped: MapFunction = map,
) -> Iterator[BopFrame]:
    """Render frames one after the other; each depends on the seed and its number alone.

    Args:
        models: textured meshes by object id, metres.
        viewpoints: of the models, in their order.
        on_frame: called after each frame with the number done and the total.
        mapped: renders blocks of frames; see `crisp_ros.cluster.mapping`.

    Raises:
        RendererError: where nothing can be drawn.
    """
    block = partial(_block, dict(models), tuple(viewpoints), settings, seed)
    blocks = [range(i, min(i + _BLOCK, frames)) for i in range(0, frames, _BLOCK)]
    for rendered in mapped(block, blocks):
        for frame in rendered:
            yield frame
            on_frame(frame.image_id + 1, frames)


def _block(
    models: Mapping[int, trimesh.Trimesh],
    viewpoints: Sequence[Viewpoints],
    settings: DomainSettings,
    seed: int,
    indices: range,
) -> list[BopFrame]:
    width, height = _FRAME_PX
    renderer = Renderer(list(models.values()), width, height)
    frames = []
    try:
        for index in indices:
            rng = np.random.default_rng([seed, index])
            scene = scattered_scene(viewpoints, width, height, settings.scatter, rng)
            scene = _lit_from_the_side(scene, settings.side_light, rng)
            frames.append(_frame(renderer, scene, list(models), settings, index, rng))
    finally:
        renderer.release()
    return frames


def _lit_from_the_side(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    if share == 0.0:
        return scene
    side = -1.0 if rng.random() < 0.5 else 1.0
    lamp = Light((side, rng.uniform(-0.3, 0.2), rng.uniform(-0.4, 0.1)), (1.3 * share,) * 3)
    dimmed = tuple(Light(o.direction, _scaled(o.colour, 1.0 - share)) for o in scene.lights[:3])
    return replace(scene, ambient=_scaled(scene.ambient, 1.0 - share), lights=(lamp, *dimmed))


def _scaled(colour: tuple[float, ...], factor: float) -> tuple[float, float, float]:
    red, green, blue = (factor * c for c in colour)
    return red, green, blue


def _frame(
    renderer: Renderer,
    scene: Scene,
    ids: Sequence[int],
    settings: DomainSettings,
    index: int,
    rng: np.random.Generator,
) -> BopFrame:
    rendering = renderer.render(scene)
    camera: Camera = scene.camera
    behind = background(camera.width, camera.height, rng)
    light = linear_light(composite(rendering, behind))
    nothing = rendering.instances == 0
    depth = np.where(nothing, np.float32(rng.uniform(*_WALL_M)), rendering.depth)
    labels = np.zeros_like(rendering.instances)
    instances = []
    for number, placement in enumerate(scene.placements, start=1):
        visible = rendering.instances == number
        count = int(np.count_nonzero(visible))
        if count < _MIN_VISIBLE_PX:
            continue
        label = len(instances) + 1
        labels[visible] = label
        share = count / max(_silhouette(renderer, scene, placement), 1)
        pose: NDArray[np.float64] = placement.T_camera_object
        instances.append(BopInstance(ids[placement.mesh], label, pose, count, min(share, 1.0)))
    return BopFrame(
        scene_id=1,
        image_id=index,
        rgb=sensed_colour(light, settings.colour, rng),
        depth=sensed_depth(depth, camera, settings.depth, rng),
        labels=labels.astype(np.int32),
        intrinsics=camera.matrix,
        instances=tuple(instances),
    )


def _silhouette(renderer: Renderer, scene: Scene, placement: Placement) -> int:
    """Pixels that an object has with nothing before it."""
    alone = renderer.render(replace(scene, placements=(placement,)))
    return int(np.count_nonzero(alone.instances))
