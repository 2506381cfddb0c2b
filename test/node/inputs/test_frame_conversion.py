"""Warnings about usable messages, and the input at fault for unusable ones."""

from __future__ import annotations

import numpy as np
import pytest
from node.peer import Scene
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from crisp_ros.node.inputs.frame_conversion import FrameMessages, InputError, convert_frame
from crisp_ros.node.outputs.image_encoding import image_message
from crisp_ros.node.parameters.node_parameters import Parameters


def messages(**frame_ids: str) -> FrameMessages:
    scene = Scene()
    result = FrameMessages(scene.rgb, scene.depth, scene.labels, scene.camera_info())
    for name, message in result._asdict().items():
        message.header = Header(frame_id=frame_ids.get(name, "camera"))
        message.header.stamp.sec = 7
    return result


def warnings(received: FrameMessages) -> dict[str, str]:
    return dict(convert_frame(received, Parameters(), {1: "mug"}).warnings)


def test_valid_messages_give_a_frame_without_warnings() -> None:
    found = convert_frame(messages(), Parameters(), {1: "mug"})
    assert found.warnings == {} and found.class_names == {1: "mug"}
    assert found.frame.labels.max() == 2 and found.frame.camera.fx == 150.0


@pytest.mark.parametrize("name", ["depth", "segmentation", "camera_info"])
def test_an_input_in_another_frame_than_colour_is_named(name: str) -> None:
    found = warnings(messages(**{name: "infra"}))
    assert set(found) == {name}
    assert f"{name} is in frame 'infra', colour in 'camera'" in found[name]


def test_a_missing_frame_id_of_labels_is_no_warning() -> None:
    assert warnings(messages(segmentation="", camera_info="")) == {}


def test_a_header_without_frame_or_stamp_is_a_warning() -> None:
    assert "no frame_id" in warnings(messages(rgb="", depth=""))["rgb"]
    unstamped = messages()
    unstamped.rgb.header.stamp.sec = 0
    assert "the header has no stamp" in warnings(unstamped)["rgb"]


def test_the_input_of_another_size_is_named() -> None:
    other_size = messages()._replace(camera_info=CameraInfo(width=320, height=240, k=[1.0] * 9))
    with pytest.raises(InputError, match="camera_info describes 320 x 240 pixels") as error:
        convert_frame(other_size, Parameters(rectified=False), {})
    assert error.value.input == "camera_info"


def test_names_of_other_labels_are_a_warning() -> None:
    found = convert_frame(messages(), Parameters(), {7: "mug", 9: "bowl"})
    (text,) = found.warnings.values()
    assert text.startswith("none of its labels has a name: it has 1, 2, label_info")
    assert text.endswith("name 7, 9") and "segmentation" in found.warnings
    assert convert_frame(messages(), Parameters(), {2: "mug", 9: "bowl"}).warnings == {}


@pytest.mark.parametrize(
    ("factor", "advice"), [(1000.0, "depth_unit to 0.001"), (20.0, "see depth_unit")]
)
def test_an_implausible_depth_names_the_unit(factor: float, advice: str) -> None:
    received = messages()
    metres = np.full((received.rgb.height, received.rgb.width), 0.9 * factor, np.float32)
    image = image_message(metres, "32FC1", received.depth.header)
    text = warnings(received._replace(depth=image))["depth"]
    assert "median depth is" in text and "a step is taken for 1 m" in text and advice in text
    right = convert_frame(received._replace(depth=image), Parameters(depth_unit=1 / factor), {})
    assert right.warnings == {} and right.frame.depth.max() == pytest.approx(0.9)


def test_without_boxes_there_is_no_object() -> None:
    received = messages()._replace(segmentation=Detection2DArray(header=Header(frame_id="camera")))
    found = convert_frame(received, Parameters(segmentation_format="detections"), {})
    assert found.warnings == {"segmentation": "no object: no box holds one"}
