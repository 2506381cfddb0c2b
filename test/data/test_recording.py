"""Recordings: what is written is read again, and other people's bags are understood."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from tiny_bop import write_tiny_bop

from crisp_ros.data.bop import BopDataset
from crisp_ros.data.camera_calibration import camera
from crisp_ros.data.recorded_frame import (
    RecordedFrame,
    RecordingError,
    TrueObject,
    bop_frames,
    left_out_text,
)
from crisp_ros.data.recording import Recording
from crisp_ros.data.recording_writer import write_recording
from crisp_ros.data.rgbd_messages import InputRules

STORE = get_typestore(Stores.ROS2_JAZZY)
HEIGHT, WIDTH = 30, 40
K = np.array([[50.0, 0, 19.5], [0, 52.0, 14.5], [0, 0, 1]])


def pose(seed: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = np.random.default_rng(seed).uniform(-1, 1, 3)
    return T


def frame(index: int) -> RecordedFrame:
    rng = np.random.default_rng(index)
    smooth = cv2.resize(rng.integers(0, 255, (3, 4, 3), np.uint8), (WIDTH, HEIGHT))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[5:15, 5:20], labels[12:25, 22:30] = 1, 3
    return RecordedFrame(
        stamp_ns=1_000_000_000 + index * 250_000_000,
        frame_id="camera",
        rgb=smooth,
        depth=rng.integers(0, 4000, (HEIGHT, WIDTH)).astype(np.uint16),
        labels=labels,
        intrinsics=K,
        label_names={1: "mug", 3: "bowl"},
        truth=(
            TrueObject(1, "mug", pose(index), 0.75),
            TrueObject(3, "bowl", pose(index + 50), 1.0),
        ),
        T_world_camera=pose(index + 100),
    )


def test_frames_come_back_as_they_were(tmp_path: Path):
    written = [frame(i) for i in range(5)]
    write_recording(tmp_path / "bag", written, jpeg_quality=95)
    recording = Recording(tmp_path / "bag")
    assert recording.count == 5
    for source in (recording, Recording(next((tmp_path / "bag").glob("*.mcap")))):
        read = list(source.frames())
        assert len(read) == 5
        for a, b in zip(written, read, strict=True):
            assert (a.stamp_ns, a.frame_id) == (b.stamp_ns, b.frame_id)
            assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 3
            np.testing.assert_array_equal(a.depth, b.depth)
            np.testing.assert_array_equal(a.labels, b.labels)
            assert b.depth.dtype == np.uint16 and b.labels.dtype == np.uint8
            np.testing.assert_array_equal(a.intrinsics, b.intrinsics)
            assert b.label_names == a.label_names
            np.testing.assert_allclose(b.T_world_camera, a.T_world_camera, atol=1e-12)
            for true, again in zip(a.truth, b.truth, strict=True):
                assert (true.label, true.name) == (again.label, again.name)
                assert again.visible_share == true.visible_share
                np.testing.assert_allclose(again.T_camera_object, true.T_camera_object, atol=1e-12)


def test_an_unknown_visible_share_survives(tmp_path: Path):
    unknown = (replace(frame(0).truth[0], visible_share=math.nan),)
    write_recording(tmp_path / "bag", [replace(frame(0), truth=unknown)])
    (read,) = Recording(tmp_path / "bag").frames()
    assert math.isnan(read.truth[0].visible_share)


def test_what_is_not_known_stays_out(tmp_path: Path):
    bare = replace(frame(0), truth=(), T_world_camera=None, label_names={})
    write_recording(tmp_path / "bag", [bare])
    (read,) = Recording(tmp_path / "bag").frames()
    assert read.truth == () and read.T_world_camera is None and read.label_names == {}


def test_many_labels_need_sixteen_bits(tmp_path: Path):
    labels = np.arange(HEIGHT * WIDTH, dtype=np.int32).reshape(HEIGHT, WIDTH)
    write_recording(tmp_path / "bag", [replace(frame(0), labels=labels)])
    (read,) = Recording(tmp_path / "bag").frames()
    np.testing.assert_array_equal(read.labels, labels)


def test_a_recording_is_not_overwritten(tmp_path: Path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(RecordingError, match="exists already"):
        write_recording(tmp_path / "bag", [frame(0)])


def test_only_millimetres_are_stored(tmp_path: Path):
    metres = replace(frame(0), depth=np.ones((HEIGHT, WIDTH), np.float32))
    with pytest.raises(RecordingError, match="uint16 millimetres"):
        write_recording(tmp_path / "bag", [frame(1), metres])
    assert not (tmp_path / "bag").exists()


# Bags of other people: raw images, other topics, other stamps.


def raw(
    stamp_ns: int, pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False
) -> Any:
    kinds = STORE.types
    rows = pixels.reshape(pixels.shape[0], -1)
    rows = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">" if big else "<")))
    data = np.pad(rows.view(np.uint8), ((0, 0), (0, padding)))
    time = kinds["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return kinds["sensor_msgs/msg/Image"](
        kinds["std_msgs/msg/Header"](time, "cam"), pixels.shape[0], pixels.shape[1], encoding,
        big, data.shape[1], data.ravel(),
    )  # fmt: skip


def info(stamp_ns: int, p: np.ndarray | None = None) -> Any:
    kinds = STORE.types
    time = kinds["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    p = np.zeros(12) if p is None else p
    return kinds["sensor_msgs/msg/CameraInfo"](
        kinds["std_msgs/msg/Header"](time, "cam"), HEIGHT, WIDTH, "plumb_bob", np.zeros(5),
        K.ravel(), np.eye(3).ravel(), p, 0, 0,
        kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip


def write_bag(
    folder: Path, messages: list[tuple[str, Any]], plugin: StoragePlugin = StoragePlugin.MCAP
) -> Path:
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for log_time, (topic, message) in enumerate(messages):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_time, STORE.serialize_cdr(message, kind))
    return folder


TOPICS = {
    "rgb": "/cam/color",
    "depth": "/cam/depth",
    "segmentation": "/masks",
    "camera_info": "/cam/info",
}
RGB = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
DEPTH_MM = np.random.default_rng(1).integers(0, 5000, (HEIGHT, WIDTH)).astype(np.uint16)
LABELS = (np.arange(WIDTH)[None].repeat(HEIGHT, 0) // 10).astype(np.uint8)


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    "colour, encoding",
    [(RGB, "rgb8"), (RGB[..., ::-1], "bgr8"), (np.dstack([RGB, RGB[..., 0]]), "rgba8")],
)
def test_raw_images(tmp_path: Path, colour, encoding, plugin):
    metres = (DEPTH_MM / 1000).astype(np.float32)
    messages = [
        ("/cam/info", info(0)),
        ("/cam/color", raw(5, colour, encoding, padding=6)),
        ("/cam/depth", raw(5, metres, "32FC1")),
        ("/masks", raw(5, LABELS.astype(np.int32), "32SC1", big=True)),
    ]
    (read,) = Recording(write_bag(tmp_path / "bag", messages, plugin), TOPICS).frames()
    np.testing.assert_array_equal(read.rgb, RGB)
    np.testing.assert_array_equal(read.depth, metres)
    np.testing.assert_array_equal(read.labels, LABELS)
    assert read.depth.dtype == np.float32 and read.labels.dtype == np.int32
    np.testing.assert_array_equal(read.intrinsics, K)
    assert read.truth == () and read.T_world_camera is None and read.frame_id == "cam"


def test_grey_images_and_millimetres(tmp_path: Path):
    messages = [
        ("/cam/info", info(0, np.array([60.0, 0, 20, 0, 0, 61, 15, 0, 0, 0, 1, 0]))),
        ("/cam/color", raw(5, RGB[..., 0], "mono8")),
        ("/cam/depth", raw(5, DEPTH_MM, "16UC1", padding=4, big=True)),
        ("/masks", raw(5, LABELS, "mono8")),
    ]
    (read,) = Recording(write_bag(tmp_path / "bag", messages), TOPICS).frames()
    np.testing.assert_array_equal(read.rgb, RGB[..., :1].repeat(3, 2))
    np.testing.assert_array_equal(read.depth, DEPTH_MM)
    assert read.intrinsics.tolist() == [[60, 0, 20], [0, 61, 15], [0, 0, 1]]  # P before K


def test_images_belong_together_by_their_stamps(tmp_path: Path):
    ms = 1_000_000

    def image(stamp: int, value: int) -> Any:
        return raw(stamp, np.full((HEIGHT, WIDTH), value, np.uint8), "mono8")

    def depth(stamp: int, value: int) -> Any:
        return raw(stamp, np.full((HEIGHT, WIDTH), value, np.uint16), "16UC1")

    messages = [
        ("/cam/info", info(0)),
        ("/cam/color", image(1000 * ms, 10)),
        ("/cam/depth", depth(1020 * ms, 11)),
        ("/cam/color", image(1100 * ms, 20)),  # its depth image is missing
        ("/masks", image(990 * ms, 12)),  # masks come late
        ("/cam/color", image(1200 * ms, 30)),
        ("/cam/depth", depth(1170 * ms, 31)),
        ("/masks", image(1100 * ms, 22)),
        ("/masks", image(1200 * ms, 32)),
    ]
    read = list(Recording(write_bag(tmp_path / "bag", messages), TOPICS).frames())
    found = [(f.rgb[0, 0, 0], f.depth[0, 0], f.labels[0, 0], f.stamp_ns // ms) for f in read]
    assert found == [(10, 11, 12, 1000), (30, 31, 32, 1200)]


def test_compressed_depth_in_metres(tmp_path: Path):
    # As image_transport quantises it: value = a / depth + b.
    a, b = 100.0 * 101.0, -100.0 + 10.0
    metres = np.linspace(0.5, 5.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    values = np.rint(a / metres + b).astype(np.uint16)
    values[0] = 0
    png = cv2.imencode(".png", values)[1].ravel()
    head = np.frombuffer(np.int32(0).tobytes() + np.float32([a, b]).tobytes(), np.uint8)
    stamped = raw(5, LABELS, "mono8")
    compressed = STORE.types["sensor_msgs/msg/CompressedImage"](
        stamped.header, "32FC1; compressedDepth png", np.concatenate([head, png])
    )
    messages = [
        ("/cam/info", info(0)),
        ("/cam/color", raw(5, RGB, "rgb8")),
        ("/cam/depth/compressedDepth", compressed),
        ("/masks", stamped),
    ]
    (read,) = Recording(write_bag(tmp_path / "bag", messages), TOPICS).frames()
    assert not read.depth[0].any()
    np.testing.assert_allclose(read.depth[1:], metres[1:], rtol=2e-3)


def broken(topic: str, message: Any) -> list[tuple[str, Any]]:
    good = {
        "/cam/info": info(0),
        "/cam/color": raw(5, RGB, "rgb8"),
        "/cam/depth": raw(5, DEPTH_MM, "16UC1"),
        "/masks": raw(5, LABELS, "mono8"),
    }
    return list({**good, topic: message}.items())


def short() -> Any:
    message = raw(5, LABELS, "mono8")
    return replace(message, data=message.data[:-1])


@pytest.mark.parametrize(
    "topic, message, complaint",
    [
        ("/cam/color", raw(5, RGB[..., :2], "fancy8"), "/cam/color: colour encoding 'fancy8'"),
        ("/cam/color", raw(5, DEPTH_MM, "16UC1"), "/cam/color: colour encoding '16UC1'"),
        ("/cam/depth", raw(5, LABELS, "mono8"), "/cam/depth: depth encoding 'mono8'"),
        ("/masks", raw(5, RGB, "rgb8"), "/masks: segmentation encoding 'rgb8'"),
        ("/masks", short(), "/masks: segmentation image is truncated: 1199 bytes"),
        ("/masks", raw(900_000_000, LABELS, "mono8"), "no colour, depth and label image within"),
    ],
)
def test_images_that_cannot_be_used(tmp_path: Path, topic, message, complaint):
    recording = Recording(write_bag(tmp_path / "bag", broken(topic, message)), TOPICS)
    with pytest.raises(RecordingError, match=complaint):
        list(recording.frames())


def test_a_missing_topic_is_named_with_those_that_are_there(tmp_path: Path):
    bag = write_bag(tmp_path / "bag", broken("/masks", short())[:-1])
    with pytest.raises(RecordingError, match="no topic /masks for segm.*there are .*/cam/color"):
        Recording(bag, TOPICS)
    with pytest.raises(RecordingError, match="no topic for segmentation, neither /seg.* nor an im"):
        Recording(bag)


def compressed(pixels: np.ndarray, format_name: str, kind: str) -> Any:
    data = cv2.imencode(kind, pixels)[1].ravel()
    header = raw(5, pixels, "").header
    return STORE.types["sensor_msgs/msg/CompressedImage"](header, format_name, data)


# Other people's names, each with what it holds; the first four are needed.
STRANGE = [
    ("/cam/color/camera_info", info(0)),
    ("/cam/color/image_raw/compressed", compressed(RGB[..., ::-1], "jpeg", ".png")),
    ("/cam/aligned/image_raw", raw(5, DEPTH_MM, "16UC1")),
    ("/sam/masks", raw(5, LABELS, "mono8")),
    ("/cam/color/image_raw", raw(5, 255 - RGB, "rgb8")),  # better than its compressed form
    ("/cam/depth/camera_info", info(0, np.array([9.0, 0, 9, 0, 0, 9, 9, 0, 0, 0, 1, 0]))),
    ("/other", raw(5, RGB[..., :2], "fancy8")),
]


@pytest.mark.parametrize("count", [4, len(STRANGE)])
def test_topics_are_found_by_what_they_hold(tmp_path: Path, count: int):
    (read,) = Recording(write_bag(tmp_path / "bag", STRANGE[:count])).frames()
    np.testing.assert_array_equal(read.rgb, RGB if count == 4 else 255 - RGB)
    np.testing.assert_array_equal(read.depth, DEPTH_MM)
    np.testing.assert_array_equal(read.labels, LABELS)
    np.testing.assert_array_equal(read.intrinsics, K)  # of the colour camera


@pytest.mark.parametrize(
    "topic, message, role",
    [
        ("/cam/depth/image_raw", raw(5, DEPTH_MM, "16UC1"), "depth"),
        ("/ir", raw(5, LABELS, "mono8"), "segmentation"),
        ("/rear/image", raw(5, RGB, "bgr8"), "rgb"),
    ],
)
def test_what_could_be_two_has_to_be_named(tmp_path: Path, topic, message, role):
    bag = write_bag(tmp_path / "bag", [*STRANGE[:4], (topic, message)])
    with pytest.raises(RecordingError, match=f"several topics could be {role}: .*{role}=TOPIC"):
        Recording(bag)
    chosen = {"depth": "/cam/aligned/image_raw", "segmentation": "/sam/masks"}
    chosen["rgb"] = "/cam/color/image_raw"
    (read,) = Recording(bag, {role: chosen[role]}).frames()
    np.testing.assert_array_equal(read.depth, DEPTH_MM)
    np.testing.assert_array_equal(read.labels, LABELS)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"k": np.zeros(9)}, "/cam/info: camera_info has K.0. = 0, so the camera is uncalibrated"),
        ({"d": np.full(5, 0.1)}, "no projection matrix P, but .* distorted.*rectified to false"),
        ({"binning_x": 2}, "describes 20 x 30 pixels .binning applied., colour is 40 x 30"),
        ({"width": 20}, "describes 20 x 30 pixels, colour is 40 x 30"),
    ],
)
def test_calibrations_that_do_not_fit_the_images(tmp_path: Path, changes, complaint):
    bag = write_bag(tmp_path / "bag", broken("/cam/info", replace(info(0), **changes)))
    with pytest.raises(RecordingError, match=complaint):
        list(Recording(bag, TOPICS).frames())


def test_depth_of_another_size_is_not_registered(tmp_path: Path):
    bag = write_bag(tmp_path / "bag", broken("/cam/depth", raw(5, DEPTH_MM[::2, ::2], "16UC1")))
    with pytest.raises(RecordingError, match="/cam/depth: depth is 20 x 15 .*registered"):
        list(Recording(bag, TOPICS).frames())


def test_frames_before_the_first_camera_info_have_the_first(tmp_path: Path):
    messages = broken("/cam/info", info(0))
    late = info(9, np.array([60.0, 0, 20, 0, 0, 61, 15, 0, 0, 0, 1, 0]))
    bag = write_bag(tmp_path / "bag", [*messages[1:], *messages[:1], ("/cam/info", late)])
    (read,) = Recording(bag, TOPICS).frames()
    np.testing.assert_array_equal(read.intrinsics, K)


P = np.array([60.0, 0, 20, 0, 0, 61, 15, 0, 0, 0, 1, 0])
WHOLE = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, HEIGHT, WIDTH, False)
PART = STORE.types["sensor_msgs/msg/RegionOfInterest"](4, 2, HEIGHT, WIDTH, False)


@pytest.mark.parametrize(
    "changes, intrinsics",
    [
        ({"k": np.zeros(9), "p": P}, [[60, 0, 20], [0, 61, 15], [0, 0, 1]]),
        ({"roi": WHOLE}, K.tolist()),
        ({"roi": PART, "width": 80}, [[50, 0, 15.5], [0, 52, 12.5], [0, 0, 1]]),
        ({"binning_x": 2, "width": 80}, [[25, 0, 9.75], [0, 52, 14.5], [0, 0, 1]]),
        ({"d": np.full(5, np.nan), "p": P}, [[60, 0, 20], [0, 61, 15], [0, 0, 1]]),
    ],
)
def test_calibrations_as_the_node_reads_them(tmp_path: Path, changes, intrinsics):
    message = replace(info(0), **changes)
    (read,) = Recording(write_bag(tmp_path / "bag", broken("/cam/info", message)), TOPICS).frames()
    assert read.intrinsics.tolist() == intrinsics
    live = CameraInfo(width=int(message.width), height=int(message.height))
    live.k, live.p, live.d = list(message.k), list(message.p), list(message.d)
    live.binning_x, live.binning_y = message.binning_x, message.binning_y
    live.roi.x_offset, live.roi.y_offset = message.roi.x_offset, message.roi.y_offset
    live.roi.width, live.roi.height = message.roi.width, message.roi.height
    assert camera(live, rectified=True).matrix.tolist() == intrinsics


def test_raw_images_of_a_bag_are_rectified(tmp_path: Path):
    distorted = replace(info(0), d=np.array([-0.3, 0.1, 0.0, 0.0, 0.0]))
    bag = write_bag(tmp_path / "bag", broken("/cam/info", distorted))
    (read,) = Recording(bag, TOPICS, InputRules(rectified=False)).frames()
    assert read.rgb.shape == RGB.shape and (read.rgb != RGB).any()
    assert read.depth.dtype == np.uint16 and read.labels.dtype == np.uint8
    np.testing.assert_array_equal(read.intrinsics, K)
    middle = (slice(13, 17), slice(17, 22))
    np.testing.assert_array_equal(read.depth[middle], DEPTH_MM[middle])


def test_depth_of_another_unit(tmp_path: Path):
    bag = write_bag(tmp_path / "bag", broken("/masks", raw(5, LABELS, "mono8")))
    (read,) = Recording(bag, TOPICS, InputRules(depth_unit_m=0.00025)).frames()
    assert read.depth.dtype == np.float32
    np.testing.assert_allclose(read.depth, DEPTH_MM * 0.00025, rtol=1e-6)


def moments(count: int) -> list[list[tuple[str, Any]]]:
    """Complete sets of messages, a second apart."""
    return [
        [
            ("/cam/info", info(i * 10**9)),
            ("/cam/color", raw(i * 10**9, RGB, "rgb8")),
            ("/cam/depth", raw(i * 10**9, DEPTH_MM, "16UC1")),
            ("/masks", raw(i * 10**9, LABELS, "mono8")),
        ]
        for i in range(count)
    ]


def cut_image(message: Any) -> Any:
    return replace(message, data=message.data[:-3])


@pytest.mark.parametrize(
    "topic, damage, reason",
    [
        ("/cam/color", cut_image, "/cam/color: colour image is truncated"),
        ("/cam/depth", cut_image, "/cam/depth: depth image is truncated"),
        ("/masks", cut_image, "/masks: segmentation image is truncated"),
        ("/cam/depth", lambda m: raw(2 * 10**9, DEPTH_MM[::2], "16UC1"), "depth is 40 x 15"),
        ("/masks", lambda m: replace(m, encoding="32SC1", data=-np.ones(4 * LABELS.size, np.uint8)
                                     .astype(np.uint8), step=4 * WIDTH), "negative labels"),
    ],
)  # fmt: skip
def test_a_bad_frame_is_left_out_and_reported(tmp_path: Path, topic, damage, reason):
    sets = moments(5)
    index = [name for name, _ in sets[2]].index(topic)
    sets[2][index] = (topic, damage(sets[2][index][1]))
    recording = Recording(write_bag(tmp_path / "bag", sum(sets, [])), TOPICS)
    for _ in range(2):  # reading again counts again
        read = list(recording.frames())
        assert [f.stamp_ns // 10**9 for f in read] == [0, 1, 3, 4]
        assert len(recording.left_out) == 1
        assert reason in left_out_text(recording.left_out)


def test_an_empty_jpeg_and_a_short_blob_are_left_out(tmp_path: Path):
    jpeg = cv2.imencode(".jpg", RGB)[1].ravel()
    kind = STORE.types["sensor_msgs/msg/CompressedImage"]
    messages = []
    for i, data in enumerate([jpeg, jpeg[:0], jpeg, jpeg[: len(jpeg) // 8], jpeg]):
        for topic, message in moments(i + 1)[i]:
            if topic == "/cam/color":
                topic, message = f"{topic}/compressed", kind(message.header, "jpeg", data)
            messages.append((topic, message))
    bag = write_bag(tmp_path / "bag", messages, StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(next(bag.glob("*.db3")))) as base:
        last = base.execute("SELECT MAX(id) FROM messages").fetchone()[0]
        base.execute("UPDATE messages SET data = ? WHERE id = ?", (b"\0\1", last))
        base.commit()
    recording = Recording(bag, TOPICS)
    read = list(recording.frames())
    assert [f.stamp_ns // 10**9 for f in read] in ([0, 2], [0, 2, 3])  # decoders differ
    text = left_out_text(recording.left_out)
    assert "empty: no data" in text and "a message of 2 bytes" in text


def test_a_recording_of_nothing_but_bad_frames_is_refused(tmp_path: Path):
    sets = [[(t, cut_image(m) if t == "/masks" else m) for t, m in s] for s in moments(210)]
    recording = Recording(write_bag(tmp_path / "bag", sum(sets, [])), TOPICS)
    with pytest.raises(RecordingError, match="no frame can be used; /masks: segmentation image is"):
        list(recording.frames())


@pytest.mark.parametrize("content", [None, b"", b"not a bag"])
@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.bag"])
def test_no_recording(tmp_path: Path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=name + ": no"):
        Recording(path)


def test_a_folder_without_metadata_is_no_recording(tmp_path: Path):
    with pytest.raises(RecordingError, match="not a recording; expected a rosbag2 folder with met"):
        Recording(tmp_path)


def test_frames_of_a_data_set_keep_their_depth(tmp_path: Path):
    dataset = BopDataset(write_tiny_bop(tmp_path))
    frames = list(bop_frames(dataset, 10.0))
    assert [f.stamp_ns for f in frames] == [10**10, 2 * 10**10, 3 * 10**10]
    for source, read in zip(dataset.frames(), frames, strict=True):
        np.testing.assert_array_equal(read.depth, source.depth)
        np.testing.assert_array_equal(read.labels, source.labels)
        assert read.depth.dtype == np.float32
        for instance, true in zip(source.instances, read.truth, strict=True):
            assert true.label == instance.label
            assert true.name == dataset.models[instance.obj_id].name == read.label_names[true.label]
            np.testing.assert_array_equal(true.T_camera_object, instance.T_camera_object)
