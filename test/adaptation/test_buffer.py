import math
from collections import Counter

import numpy as np
import pytest
import torch
from adaptation_samples import viewed_from
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.adaptation.buffer import SampleBuffer, SampleFileError, load_samples, save_samples

MODEL = "0123456789abcdef"


def around(degrees, key="a"):
    angle = math.radians(degrees)
    return viewed_from((math.cos(angle), math.sin(angle), 0.0), key)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 359)), max_size=60))
def test_capacity_is_shared_among_the_objects(arrivals):
    buffer = SampleBuffer(8)
    for key, degrees in arrivals:
        buffer.add(around(degrees, key))
        assert len(buffer) <= 8
    arrived, kept = Counter(key for key, _ in arrivals), Counter(s.key for s in buffer)
    for key, count in arrived.items():
        # Of every object at least a fair share stays, or all there was.
        assert kept[key] >= min(count, 8 // len(arrived))


def test_of_two_near_views_the_older_goes():
    buffer = SampleBuffer(3)
    old, other, far, new = around(0), around(90), around(180), around(5)
    for sample in (old, other, far, new):
        buffer.add(sample)
    assert list(buffer) == [other, far, new]


def test_an_object_that_is_stared_at_keeps_its_other_sides():
    buffer = SampleBuffer(10)
    for degrees in range(0, 360, 60):
        buffer.add(around(degrees))
    for step in range(200):
        buffer.add(around(0.01 * step))
    views = torch.stack([sample.view for sample in buffer])
    for degrees in range(60, 360, 60):
        assert (views @ around(degrees).view).max() > 0.999


def test_the_newest_is_always_taken():
    buffer = SampleBuffer(2)
    for index in range(20):
        sample = around(17 * index, str(index))
        buffer.add(sample)
        assert list(buffer)[-1] is sample


def test_a_draw_has_distinct_samples_of_many_objects():
    buffer = SampleBuffer(30)
    for degrees in range(0, 200, 10):
        buffer.add(around(degrees, "often"))
    for key in "xyz":
        buffer.add(around(0, key))
    drawn = buffer.draw(4, np.random.default_rng(0))
    assert sorted(s.key for s in drawn) == ["often", "x", "y", "z"]
    everything = buffer.draw(100, np.random.default_rng(0))
    assert len(everything) == 23 == len({id(sample) for sample in everything})


def test_memory_is_bounded_by_capacity_times_a_sample():
    buffer, sample = SampleBuffer(5), around(0)
    one = sum(
        t.nbytes
        for t in (sample.crop, sample.grid, sample.points, sample.T_object_camera, sample.code)
    )
    for degrees in range(100):
        buffer.add(around(degrees))
    assert buffer.nbytes == 5 * one


def test_saved_and_restored(tmp_path):
    buffer = SampleBuffer(4)
    for degrees, key in ((0, "a"), (90, "b"), (180, "a")):
        buffer.add(around(degrees, key))
    save_samples(tmp_path / "kept", buffer, MODEL)
    restored = list(load_samples(tmp_path / "kept", MODEL))
    assert [s.key for s in restored] == ["a", "b", "a"]
    for before, after in zip(buffer, restored, strict=True):
        torch.testing.assert_close(before.T_object_camera, after.T_object_camera)
        assert torch.equal(before.crop, after.crop) and before.certified == after.certified
    save_samples(tmp_path / "kept", SampleBuffer(), MODEL)
    assert len(load_samples(tmp_path / "kept", MODEL)) == 0


def test_unusable_files_have_different_errors(tmp_path):
    path = tmp_path / "kept"
    with pytest.raises(SampleFileError, match="kept"):
        load_samples(path, MODEL)
    buffer = SampleBuffer()
    buffer.add(around(0))
    save_samples(path, buffer, MODEL)
    with pytest.raises(SampleFileError, match="of model 0123456789abcdef, not of other"):
        load_samples(path, "other")
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    with pytest.raises(SampleFileError, match="damaged"):
        load_samples(path, MODEL)
    path.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(SampleFileError):
        load_samples(path, MODEL)
