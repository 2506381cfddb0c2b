"""The executable `crisp_player`: plays a recording at the node's pace and records its estimates.

Each frame is sent after the estimate of the one before, so that none is lost on a slow machine. In
a loop, which is for watching, frames are sent as by a camera: not before their time, stamped with
the clock if they are late, and without waiting for frames that the node drops.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import LabelInfo, VisionClass

from crisp_ros.data.bop import DatasetError
from crisp_ros.data.recorded_frame import (
    WORLD_FRAME,
    FrameSource,
    RecordedFrame,
    RecordingError,
    left_out_text,
)
from crisp_ros.data.rgbd_messages import read_labels
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.inputs.input_topics import IMAGE_TOPICS, LABEL_INFO_TOPIC, TOPICS
from crisp_ros.node.inputs.synchronizer import stamp_ns
from crisp_ros.node.outputs.image_encoding import image_message
from crisp_ros.node.outputs.message_conversion import transform
from crisp_ros.node.parameters.undeclared import warn_of_undeclared
from crisp_ros.node.player.mask_matching import name_by_truth
from crisp_ros.node.player.player_parameters import declared_parameters
from crisp_ros.node.player.player_results import Results
from crisp_ros.node.pose_conversion import pose_message
from crisp_ros.node.qos import latched
from crisp_ros.node.shutdown import until_shutdown

_ENCODINGS = {"uint8": "mono8", "uint16": "16UC1", "int32": "32SC1", "float32": "32FC1"}
_ASK_AGAIN_S = 5.0
_DROPPED_S = (
    10.0  # in a loop: a frame was dropped if its estimate takes longer than this and others
)
_IMAGE_TIMEOUT_S = 20.0
_LAST_MESHES_S = 0.5
_BETWEEN_LOOPS_NS = 1_000_000_000
_TRANSITIONS = {  # by the initial state: transition, its label, final state
    State.PRIMARY_STATE_UNCONFIGURED: (
        Transition.TRANSITION_CONFIGURE,
        "configure",
        State.PRIMARY_STATE_INACTIVE,
    ),
    State.PRIMARY_STATE_INACTIVE: (
        Transition.TRANSITION_ACTIVATE,
        "activate",
        State.PRIMARY_STATE_ACTIVE,
    ),
}


class PlayError(Exception):
    """The node did not react; the message says what was expected."""


class Player(Node):
    """Node that sends frames and waits for their estimates."""

    def __init__(self) -> None:
        """Declare the parameters; `play` sends the frames."""
        super().__init__("crisp_player")
        self.parameters = declared_parameters(self)
        warn_of_undeclared(self)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.results = Results(Path(self.parameters.results)) if self.parameters.results else None
        self._estimates: dict[int, tuple[ObjectEstimateArray, float]] = {}
        self._overlays: dict[int, Image] = {}
        self._masks: dict[int, Image] = {}
        roles = [r for r in IMAGE_TOPICS if not (self.parameters.segmented and r == "segmentation")]
        self._images = {role: self.create_publisher(Image, IMAGE_TOPICS[role], 5) for role in roles}
        self._camera_info = self.create_publisher(CameraInfo, TOPICS["camera_info"], 5)
        self._label_info = self.create_publisher(LabelInfo, LABEL_INFO_TOPIC, latched(depth=1))
        self._label_names: Mapping[int, str] = {}
        self._slowest_s = 0.0  # of the estimates so far
        self.left_out = 0  # messages or frames that could not be played
        self._truth = self.create_publisher(PoseArray, "ground_truth/poses", 5)
        self._broadcaster = TransformBroadcaster(self)
        estimator = self.parameters.estimator
        self.create_subscription(
            ObjectEstimateArray, f"{estimator}/objects", self._estimates_received, 10
        )
        if self.results:
            if self.parameters.segmented:
                topic = IMAGE_TOPICS["segmentation"]
                self.create_subscription(Image, topic, self._mask_received, 5)
            self.create_subscription(Image, f"{estimator}/overlay", self._overlay_received, 2)
            self.create_subscription(
                ObjectMesh, f"{estimator}/meshes", self.results.mesh, latched(depth=100)
            )

    def play(self) -> int:
        """Play all frames; return the number of frames with an estimate.

        Raises:
            PlayError: the node is missing, cannot be activated, or never sends an estimate.
            RecordingError, DatasetError: unreadable recording or data set.
        """
        parameters = self.parameters
        source = parameters.source()
        first = next(parameters.played(source), None)
        if first is None:
            raise RecordingError("there is no frame to play")
        if parameters.bring_up:
            self._bring_up()
        self._state("waiting for the node to listen")
        self._await(self._is_heard, f"/{parameters.estimator} to subscribe to the images")
        self._state("playing")
        sent = answered = 0
        last_ns = self.get_clock().now().nanoseconds
        while True:
            offset_ns = last_ns + _BETWEEN_LOOPS_NS - first.stamp_ns
            for frame in parameters.played(source):
                began = time.monotonic()
                if parameters.loop:
                    offset_ns += self._when_due(frame.stamp_ns + offset_ns)
                last_ns = frame.stamp_ns + offset_ns
                answered += self._play_frame(sent, replace(frame, stamp_ns=last_ns))
                sent += 1
                if answered == 0:
                    raise PlayError(
                        f"/{parameters.estimator} sent no estimate of the first frame within"
                        f" {parameters.timeout:g} s"
                    )
                if parameters.rate > 0.0:
                    self._pause(1.0 / parameters.rate - (time.monotonic() - began))
            if not parameters.loop:
                break
        self._report_left_out(source)
        if self.results:
            self._pause(_LAST_MESHES_S)
            self.results.end(answered)
        return answered

    def _report_left_out(self, source: FrameSource) -> None:
        """Report what could not be played, once per reason."""
        self.left_out = len(source.left_out)
        if self.left_out:
            text = left_out_text(source.left_out)
            self.get_logger().warning(text)
            if self.results:
                self.results.left_out(self.left_out, text)

    def _when_due(self, stamp_ns: int) -> int:
        """Wait until the clock reaches a stamp; return by how much it is late, nanoseconds."""
        ahead_ns = stamp_ns - self.get_clock().now().nanoseconds
        self._pause(ahead_ns / 1e9)
        return max(-ahead_ns, 0)

    def _play_frame(self, index: int, frame: RecordedFrame) -> bool:
        """Send one frame; return whether its estimate arrived in time."""
        stamp = frame.stamp_ns
        timeout = self.parameters.timeout
        if self.parameters.loop and self._slowest_s > 0.0:
            timeout = min(timeout, max(_DROPPED_S, 5 * self._slowest_s))
        sent = time.monotonic()
        self._publish(frame)
        answered = self._spin_until(lambda: stamp in self._estimates, timeout)
        if not answered:
            self.get_logger().warning(f"frame {index}: no estimate within {timeout:.3g} s")
        message, received = self._estimates.pop(stamp, (None, math.nan))
        if answered:
            self._slowest_s = max(self._slowest_s, received - sent)
        self._estimates.clear()  # late estimates of earlier frames
        if self.results:
            if answered:
                self._spin_until(lambda: stamp in self._overlays, _IMAGE_TIMEOUT_S)
            if message is not None and self.parameters.segmented:
                name_by_truth(message, self._masks_of(index, frame), frame.labels)
            self.results.frame(
                index, frame, message, 1e3 * (received - sent), self._overlays.pop(stamp, None)
            )
            self._overlays.clear()
            self._masks.clear()
        return answered

    def _masks_of(self, index: int, frame: RecordedFrame) -> NDArray[np.integer]:
        """The segmenter's labels (H, W) of a frame, which may arrive after its estimate."""
        if self._spin_until(lambda: frame.stamp_ns in self._masks, _IMAGE_TIMEOUT_S):
            return read_labels(self._masks[frame.stamp_ns])
        self.get_logger().warning(
            f"frame {index}: no masks from the segmenter within {_IMAGE_TIMEOUT_S:g} s: its "
            "estimates are not assigned to the true objects"
        )
        return np.zeros_like(frame.labels)

    def _publish(self, frame: RecordedFrame) -> None:
        header = _header(frame.stamp_ns, frame.frame_id)
        if not self.parameters.segmented:
            self._publish_label_names(header, frame.label_names)
            self._images["segmentation"].publish(_image(frame.labels, header))
        if frame.T_world_camera is not None:
            parent = _header(frame.stamp_ns, WORLD_FRAME)
            self._broadcaster.sendTransform(
                [transform(parent, frame.frame_id, frame.T_world_camera)]
            )
        if frame.truth:
            poses = [pose_message(true.T_camera_object) for true in frame.truth]
            self._truth.publish(PoseArray(header=header, poses=poses))
        self._camera_info.publish(_camera_info(header, frame))
        self._images["depth"].publish(_image(frame.depth, header))
        self._images["rgb"].publish(image_message(frame.rgb, "rgb8", header))

    def _publish_label_names(self, header: Header, names: Mapping[int, str]) -> None:
        """Publish the names if they have changed: in a data set each image has its own labels."""
        if names != self._label_names:
            self._label_names = names
            classes = [VisionClass(class_id=i, class_name=name) for i, name in names.items()]
            self._label_info.publish(LabelInfo(header=header, class_map=classes))

    def _estimates_received(self, message: ObjectEstimateArray) -> None:
        self._estimates[stamp_ns(message)] = (message, time.monotonic())

    def _mask_received(self, message: Image) -> None:
        self._masks[stamp_ns(message)] = message

    def _overlay_received(self, message: Image) -> None:
        self._overlays[stamp_ns(message)] = message

    def _bring_up(self) -> None:
        """Activate the node from any state."""
        name = f"/{self.parameters.estimator}"
        state_service = self.create_client(GetState, f"{name}/get_state")
        change_service = self.create_client(ChangeState, f"{name}/change_state")
        self._state("waiting for the node")
        self._await(state_service.service_is_ready, f"the node {name}")
        self._await(change_service.service_is_ready, f"the services of {name}")
        while (state := self._state_of(state_service, name)).id != State.PRIMARY_STATE_ACTIVE:
            if state.id not in _TRANSITIONS:
                raise PlayError(f"{name} is {state.label} and cannot be activated")
            transition, label, goal = _TRANSITIONS[state.id]
            self._state(f"{label} the node")
            request = ChangeState.Request(transition=Transition(id=transition))
            answer = change_service.call_async(request)

            def changed(answer: Future = answer, goal: int = goal) -> bool:
                return answer.done() or self._state_of(state_service, name).id == goal

            self._await(changed, f"{name} to {label}")
            if answer.done() and not answer.result().success:
                raise PlayError(f"{name} refused to {label}")

    def _state_of(self, service: Client, name: str) -> State:
        """Request the node's state, repeatedly: responses during discovery can be lost."""
        answers: list[Future] = []
        asked_at = -math.inf

        def answered() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > _ASK_AGAIN_S:
                asked_at = time.monotonic()
                answers.append(service.call_async(GetState.Request()))
            return any(answer.done() for answer in answers)

        self._await(answered, f"{name} to answer {service.srv_name}")
        return next(answer.result().current_state for answer in answers if answer.done())

    def _is_heard(self) -> bool:
        publishers = [*self._images.values(), self._camera_info]
        listeners = 1
        topics = [f"{self.parameters.estimator}/objects"]
        if self.parameters.segmented:
            topics.append(IMAGE_TOPICS["segmentation"])
            # In one process, the segmenter alone subscribes, and passes all on.
            found = self.get_subscriptions_info_by_topic(self.resolve_topic_name(topics[-1]))
            listeners += any(f.node_name == self.parameters.estimator for f in found)
        else:
            publishers.append(self._label_info)
        return all(self.count_publishers(topic) > 0 for topic in topics) and all(
            publisher.get_subscription_count() >= listeners for publisher in publishers
        )

    def _await(self, done: Callable[[], bool], what: str) -> None:
        timeout_s = self.parameters.timeout
        if not self._spin_until(done, timeout_s):
            raise PlayError(f"waited {timeout_s:g} s for {what}")

    def _spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0.0:
                return False
            self._executor.spin_once(min(left, 0.1))
        return True

    def _pause(self, seconds: float) -> None:
        self._spin_until(lambda: False, seconds)

    def _state(self, text: str) -> None:
        self.get_logger().info(text)
        if self.results:
            self.results.state(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play until the end or shutdown.

    Returns:
        0; 1 after an error; 3 if a part of the recording could not be played.
    """
    rclpy.init(args=arguments)
    player = Player()
    try:
        with until_shutdown():
            player.play()
        return 3 if player.left_out else 0
    except (PlayError, RecordingError, DatasetError) as error:
        if player.results:
            player.results.error(str(error))
        print(f"crisp_player: {error}", file=sys.stderr)
        return 1
    finally:
        player.destroy_node()
        try_shutdown()


def _header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=frame_id)


def _image(pixels: np.ndarray, header: Header) -> Image:
    """Create an image of labels or depth (H, W), with the encoding of its type."""
    return image_message(pixels, _ENCODINGS[pixels.dtype.name], header)


def _camera_info(header: Header, frame: RecordedFrame) -> CameraInfo:
    height, width = frame.depth.shape
    k = frame.intrinsics
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
    )


if __name__ == "__main__":
    sys.exit(main())
