"""Bags of all kinds and states: read, read around damage, or refused with a way out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags import rosbag1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from small_mcap import Stored, write_mcap

from crisp_ros.data.bag_reader import BagReader, Damage
from crisp_ros.data.recorded_frame import RecordingError, left_out_text
from crisp_ros.data.recording import Recording

STORE = get_typestore(Stores.ROS2_JAZZY)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
HEIGHT, WIDTH, COUNT = 12, 16, 10
RGB = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
DEPTH = np.random.default_rng(1).integers(1, 5000, (HEIGHT, WIDTH)).astype(np.uint16)
LABELS = (np.arange(WIDTH)[None].repeat(HEIGHT, 0) // 6).astype(np.uint8)
K = np.array([50.0, 0, 7.5, 0, 50, 5.5, 0, 0, 1])
SECOND = 10**9


def header(seconds: int, store: Any = STORE) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](seconds, 0)
    kind = store.types["std_msgs/msg/Header"]
    return kind(seconds, time, "cam") if store is ROS1 else kind(time, "cam")


def image(seconds: int, pixels: np.ndarray, encoding: str, store: Any = STORE) -> Any:
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    kind = store.types["sensor_msgs/msg/Image"]
    return kind(header(seconds, store), HEIGHT, WIDTH, encoding, 0, len(data) // HEIGHT, data)


def camera_info(seconds: int, store: Any = STORE) -> Any:
    roi = store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    kind = store.types["sensor_msgs/msg/CameraInfo"]
    P = np.array([50.0, 0, 7.5, 0, 0, 50, 5.5, 0, 0, 0, 1, 0])
    return kind(header(seconds, store), HEIGHT, WIDTH, "plumb_bob", np.zeros(5), K,
                np.eye(3).ravel(), P, 0, 0, roi)  # fmt: skip


def moment(i: int, store: Any = STORE) -> list[tuple[str, Any]]:
    return [
        ("/rgb/camera_info", camera_info(i, store)),
        ("/rgb/image_rect_color", image(i, RGB, "rgb8", store)),
        ("/depth_registered/image_rect", image(i, DEPTH, "16UC1", store)),
        ("/segmentation", image(i, LABELS, "mono8", store)),
    ]


def stored(count: int = COUNT, encode: Any = None) -> list[Stored]:
    encode = encode or (lambda m: bytes(STORE.serialize_cdr(m, m.__msgtype__)))
    return [
        Stored(topic, message.__msgtype__, i * SECOND + k, encode(message))
        for i in range(count)
        for k, (topic, message) in enumerate(moment(i))
    ]


def rosbag2(folder: Path, plugin: StoragePlugin, mode: CompressionMode | None = None) -> Path:
    writer = Writer(folder, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for m in stored():
            if m.topic not in connections:
                connections[m.topic] = writer.add_connection(m.topic, m.kind, typestore=STORE)
            writer.write(connections[m.topic], m.time_ns, m.data)
    return folder


def ros1_bag(path: Path, compressed: bool) -> Path:
    writer = rosbag1.Writer(path)
    if compressed:
        writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
    with writer:
        connections: dict[str, Any] = {}
        for i in range(COUNT):
            for k, (topic, message) in enumerate(moment(i, ROS1)):
                kind = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=ROS1)
                raw = ROS1.serialize_ros1(message, kind)
                writer.write(connections[topic], i * SECOND + k + 1, raw)
    return path


def is_whole(recording: Recording, seconds: list[int]) -> None:
    frames = list(recording.frames())
    assert [frame.stamp_ns // SECOND for frame in frames] == seconds
    for frame in frames:
        np.testing.assert_array_equal(frame.rgb, RGB)
        np.testing.assert_array_equal(frame.depth, DEPTH)
        np.testing.assert_array_equal(frame.labels, LABELS)
        np.testing.assert_array_equal(frame.intrinsics.ravel(), K)


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
@pytest.mark.parametrize("indexed", [True, False])
def test_mcap(tmp_path: Path, compression: str, indexed: bool) -> None:
    recording = Recording(write_mcap(tmp_path / "a.mcap", stored(), compression, indexed))
    assert recording.count == COUNT
    is_whole(recording, list(range(COUNT)))
    assert recording.left_out == []


@pytest.mark.parametrize("mode", [None, CompressionMode.MESSAGE, CompressionMode.FILE])
def test_sqlite(tmp_path: Path, mode: CompressionMode | None) -> None:
    is_whole(Recording(rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3, mode)), list(range(COUNT)))


@pytest.mark.parametrize("compressed", [False, True])
def test_ros_1(tmp_path: Path, compressed: bool) -> None:
    is_whole(Recording(ros1_bag(tmp_path / "a.bag", compressed)), list(range(COUNT)))


@pytest.mark.parametrize(
    "damage", ["none", "no metadata", "no storage", "foreign storage", "rubbish"]
)
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_folder_whose_metadata_is_no_good(
    tmp_path: Path, plugin: StoragePlugin, damage: str
) -> None:
    folder = rosbag2(tmp_path / "bag", plugin)
    path = folder / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    if damage == "no metadata":
        path.unlink()
    elif damage == "rubbish":
        path.write_text("rosbag2_bagfile_information: {version: [")
    elif damage != "none":
        storage = "" if damage == "no storage" else "my_storage"
        content["rosbag2_bagfile_information"]["storage_identifier"] = storage
        path.write_text(yaml.safe_dump(content))
    is_whole(Recording(folder), list(range(COUNT)))


def test_several_files_without_metadata_are_read_in_order(tmp_path: Path) -> None:
    messages = stored()
    write_mcap(tmp_path / "bag_1.mcap", messages[: len(messages) // 2])
    write_mcap(tmp_path / "bag_0.mcap", messages[len(messages) // 2 :])
    is_whole(Recording(tmp_path), list(range(COUNT)))


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
@pytest.mark.parametrize("lost", [0, 4, COUNT - 1])
def test_reading_goes_on_behind_a_damaged_chunk(
    tmp_path: Path, compression: str, lost: int
) -> None:
    path = write_mcap(tmp_path / "a.mcap", stored(), compression, damaged_chunk=lost)
    recording = Recording(path)
    is_whole(recording, [i for i in range(COUNT) if i != lost])
    assert "the bag is damaged" in left_out_text(recording.left_out)


def test_messages_that_cannot_be_decoded_are_reported(tmp_path: Path) -> None:
    messages = stored()
    messages[5] = messages[5]._replace(data=b"\0\1")
    messages[10] = messages[10]._replace(data=messages[10].data[:40])
    reader = BagReader(write_mcap(tmp_path / "a.mcap", messages))
    damages: list[Damage] = []
    read = list(reader.messages(list(reader.types), damages.append))
    assert len(read) == len(messages) - 2
    assert [damage.topic for damage in damages] == [messages[5].topic, messages[10].topic]
    assert damages[0].reason == "a message of 2 bytes"


def refused(path: Path, *words: str) -> None:
    with pytest.raises(RecordingError) as refusal:
        list(Recording(path).frames())
    text = str(refusal.value)
    assert path.name in text and all(word in text for word in words), text


def test_what_is_broken_off_says_how_to_recover_it(tmp_path: Path) -> None:
    whole = write_mcap(tmp_path / "whole.mcap", stored()).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    refused(cut, "broken off", "mcap recover")


def test_other_serialisations_are_named(tmp_path: Path) -> None:
    raw = stored(encode=lambda m: b"\x0a\x05hello" * 20)
    refused(write_mcap(tmp_path / "a.mcap", raw, message_encoding="protobuf"), "CDR", "convert")
    refused(write_mcap(tmp_path / "b.mcap", stored(), profile="x"), "ros2 bag convert")
    folder = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3)
    path = folder / "metadata.yaml"
    path.write_text(
        path.read_text().replace("serialization_format: cdr", "serialization_format: x")
    )
    is_whole(Recording(folder), list(range(COUNT)))  # the file itself says CDR


def test_a_missing_file_of_a_bag(tmp_path: Path) -> None:
    folder = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3)
    next(folder.glob("*.db3")).unlink()
    refused(folder, "files are missing", "copy the whole folder")


def test_missing_masks_say_what_to_do(tmp_path: Path) -> None:
    messages = [m for m in stored() if m.topic != "/segmentation"]
    path = write_mcap(tmp_path / "a.mcap", messages)
    refused(path, "no topic for segmentation", "masks of a segmenter", "segmentation=TOPIC")


def test_definitions_in_the_bag_count(tmp_path: Path) -> None:
    """Of an older LabelInfo, whose fields differ."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("uint16 id\nstring name", "vision_msgs/msg/VisionClass"))
    fields = "std_msgs/Header header\nvision_msgs/VisionClass[] classes"
    store.register(get_types_from_msg(fields, "vision_msgs/msg/LabelInfo"))
    classes = [store.types["vision_msgs/msg/VisionClass"](1, "mug")]
    labels = store.types["vision_msgs/msg/LabelInfo"](header(0), classes)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for topic, message in [("/label_info", labels), *moment(0)]:
            kind = message.__msgtype__
            connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], 5, store.serialize_cdr(message, kind))
    reader = BagReader(tmp_path / "bag")
    read = list(reader.messages(["/label_info"], lambda damage: pytest.fail(damage.reason)))
    assert read[0].message.classes[0].name == "mug"
    is_whole(Recording(tmp_path / "bag"), [0])


def test_stamps_of_a_device_clock(tmp_path: Path) -> None:
    """Stamps count from the camera's start, and the bag's own times from 1970."""
    messages = [m._replace(time_ns=m.time_ns + 1_700_000_000 * SECOND) for m in stored()]
    is_whole(Recording(write_mcap(tmp_path / "a.mcap", messages)), list(range(COUNT)))


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", stored())
    frames = Recording(path).frames()
    assert next(frames).stamp_ns == 0
    frames.close()
    shutil.rmtree(tmp_path)
