"""The training crops that a recipe has rendered, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from crisp_ros.cluster import ClusterError, MapFunction
from crisp_ros.network.model import network_sees_geometry
from crisp_ros.synthesis.crop_set import ShardSettings, write_shard
from crisp_ros.synthesis.renderers import open_renderer

from .objects import TrainingObject
from .recipe import Recipe

_FRAME_PX = (640, 480)


def render_crops(
    folder: Path,
    numbers: Sequence[int],
    objects: Sequence[TrainingObject],
    recipe: Recipe,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
    mapped: MapFunction = map,
) -> None:
    """Render those shards of a folder that are not there yet.

    Args:
        folder: of the shards; all machines that render must see it under this path.
        numbers: of the shards wanted.
        objects: shown by the crops.
        recipe: how.
        on_shard: called with the number of shards that are there and their total, first before any
            is rendered.
        mapped: renders the shards; see `crisp_ros.cluster.mapping`.

    Raises:
        crisp_ros.synthesis.renderer.RendererError: nothing can be drawn.
        ClusterError: a shard was written where this process does not see it.
    """
    folder = folder.resolve()
    missing = [number for number in numbers if not _path(folder, number).exists()]
    done = len(numbers) - len(missing)
    on_shard(done, len(numbers))
    looks, views = [o.look for o in objects], [o.views for o in objects]
    for number in mapped(partial(_render, folder, looks, views, recipe), missing):
        if not _path(folder, number).exists():
            raise ClusterError(
                f"{_path(folder, number)}: a worker wrote it, but it is not here: name a folder"
                " that all machines share"
            )
        done += 1
        on_shard(done, len(numbers))


def _path(folder: Path, number: int) -> Path:
    return folder / f"shard_{number:04d}.json"


def _render(folder: Path, looks: list, views: list, recipe: Recipe, number: int) -> int:
    depth = network_sees_geometry(recipe.network)
    settings = ShardSettings(recipe.scatter, recipe.shard_crops, recipe.stored_px, depth)
    renderer = open_renderer(recipe.renderer, looks, *_FRAME_PX)
    try:
        write_shard(folder, number, views, settings, recipe.seed, renderer)
    finally:
        renderer.release()
    return number
