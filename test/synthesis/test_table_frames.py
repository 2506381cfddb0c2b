"""Rendered tables: a table without room for its objects is drawn again, finished ones stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_bop import primitives, tiny_frames, write_tiny_bop

from crisp_ros.data.bop import BopDataset, BopFrame
from crisp_ros.data.bop_writer import write_frames
from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError, TrueObject
from crisp_ros.synthesis import table_frames as tables
from crisp_ros.synthesis.table_frames import TableFrameSettings, table_frames

SEEDS: list[tuple[int, int]] = []


def recording(refused: int, most: int = 9):
    """A stand-in of the renderer: refuses each table's first layouts, and too many objects."""
    SEEDS.clear()

    def draw(models: dict, settings: object, seed: int) -> Iterator[RecordedFrame]:
        SEEDS.append((len(models), seed))
        if len(SEEDS) % (refused + 1) or len(models) > most:
            raise RecordingError("objects do not fit on a table of radius 0.3 m")
        image = np.zeros((8, 8), np.uint16)
        labels = np.repeat(np.arange(8, dtype=np.uint8)[:, None], 8, axis=1)
        truth = tuple(TrueObject(i, name, np.eye(4), 1.0) for i, name in enumerate(models, start=1))
        yield RecordedFrame(
            stamp_ns=0, frame_id="c", rgb=np.zeros((8, 8, 3), np.uint8), depth=image,
            labels=labels, intrinsics=np.eye(3), label_names={}, truth=truth,
        )  # fmt: skip

    # Like the renderer's, the layout is drawn before the first frame is asked for.
    return lambda *arguments: iter(list(draw(*arguments)))


def test_a_table_without_room_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "table_recording", recording(refused=3))
    settings = TableFrameSettings(scenes=4, views=1, objects=3)
    frames = list(table_frames(primitives(), settings, seed=5))
    assert [frame.scene_id for frame in frames] == [1, 2, 3, 4]
    assert all(len(frame.instances) == 3 for frame in frames)
    assert len(SEEDS) == 16 and len(set(SEEDS)) == 16  # each attempt with a seed of its own
    before = SEEDS.copy()
    list(table_frames(primitives(), settings, seed=5))
    assert SEEDS[16:] == before or SEEDS == before  # the same seed draws the same tables


def test_a_table_that_stays_too_small_loses_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "table_recording", recording(refused=0, most=2))
    (frame,) = table_frames(primitives(), TableFrameSettings(1, 1, 3), seed=5)
    assert len(frame.instances) == 2
    monkeypatch.setattr(tables, "table_recording", recording(refused=0, most=0))
    with pytest.raises(RecordingError, match="do not fit"):
        list(table_frames(primitives(), TableFrameSettings(1, 1, 3), seed=5))


def test_finished_scenes_keep_their_truth_when_one_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[BopFrame]:
        yield from tiny_frames()
        raise RecordingError("the next table")

    write_tiny_bop(tmp_path / "whole")
    expected = BopDataset(tmp_path / "whole").images
    with pytest.raises(RecordingError, match="the next table"):
        write_frames(tmp_path / "whole", failing(), "other")
    broken_off = BopDataset(tmp_path / "whole", "other")
    assert broken_off.images == expected
    assert all(frame.instances for frame in broken_off.frames())
