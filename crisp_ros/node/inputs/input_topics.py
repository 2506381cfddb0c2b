"""Topics of the inputs and the types of their messages."""

from __future__ import annotations

from typing import NamedTuple

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from crisp_ros.node.inputs.segmentation_messages import DETECTIONS
from crisp_ros.node.parameters.node_parameters import Parameters

IMAGE_TOPICS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "segmentation": "segmentation",
}
DETECTIONS_TOPIC = "detections"
CAMERA_INFO_TOPIC = "rgb/camera_info"
LABEL_INFO_TOPIC = "label_info"
TOPICS = {**IMAGE_TOPICS, "camera_info": CAMERA_INFO_TOPIC}


class InputTopic(NamedTuple):
    """A topic to subscribe to.

    Attributes:
        message_type: of its messages.
        name: resolved name.
    """

    message_type: type
    name: str


def image_topic(node: Node, name: str, transport: str) -> InputTopic:
    """Get the topic of an image input; the suffix of image_transport follows the remapped name."""
    topic = node.resolve_topic_name(IMAGE_TOPICS[name])
    if transport == "raw":
        return InputTopic(Image, topic)
    return InputTopic(CompressedImage, f"{topic}/{transport}")


def input_topics(node: Node, parameters: Parameters) -> dict[str, InputTopic]:
    """Get the topic of each input, by the name of the input."""
    transports = {
        "rgb": parameters.image_transport,
        "depth": parameters.depth_image_transport,
        "segmentation": parameters.segmentation_image_transport,
    }
    topics = {"camera_info": InputTopic(CameraInfo, node.resolve_topic_name(CAMERA_INFO_TOPIC))}
    topics |= {name: image_topic(node, name, transport) for name, transport in transports.items()}
    if parameters.segmentation_format == DETECTIONS:
        topic = node.resolve_topic_name(DETECTIONS_TOPIC)
        topics["segmentation"] = InputTopic(Detection2DArray, topic)
    return topics


def type_name(message_type: type) -> str:
    """Format a message type as the graph names it, such as sensor_msgs/msg/Image."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"
