"""The peer of the node under test: a camera, a subscriber, and the node's process."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import isolated_node, spin_until
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

PATIENCE_S = 40.0
START_S = 180.0  # a loaded machine takes its time to import torch
WIDTH, HEIGHT = 160, 120
FOCAL, CX, CY = 150.0, 80.5, 60.25
CAMERA_FRAME = "camera_optical"
FAKE_NODE = Path(__file__).with_name("fake_node.py")
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Peer:
    """Publisher of frames that keeps the outputs of the node."""

    def __init__(self, node: Node, ns: str = "") -> None:
        self.node = node
        self.stamp_ns = node.get_clock().now().nanoseconds
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._rgb = node.create_publisher(Image, f"{ns}/rgb/image_rect_color", 10)
        self._depth = node.create_publisher(Image, f"{ns}/depth_registered/image_rect", 10)
        self._labels = node.create_publisher(Image, f"{ns}/segmentation", 10)
        self._info = node.create_publisher(CameraInfo, f"{ns}/rgb/camera_info", 10)
        self.listen(ObjectEstimateArray, f"{ns}/crisp/objects", "objects", 10)
        self.listen(TFMessage, "/tf", "tf", 100)
        self.listen(DiagnosticArray, "/diagnostics", "diagnostics", 100)
        prefix = f"{ns}/crisp"
        self._change = node.create_client(ChangeState, f"{prefix}/change_state")
        self._state = node.create_client(GetState, f"{prefix}/get_state")
        self._set = node.create_client(SetParameters, f"{prefix}/set_parameters")

    def listen(self, message_type: type, topic: str, key: str, qos: QoSProfile | int) -> Any:
        """Keep the messages of a topic in `received[key]`; return the subscription."""
        return self.node.create_subscription(message_type, topic, self.received[key].append, qos)

    def listen_to_shapes(self) -> None:
        """Subscribe to meshes and markers, with all that were sent before."""
        self.listen(ObjectMesh, "/crisp/meshes", "meshes", LATCHED)
        self.listen(MarkerArray, "/crisp/markers", "markers", LATCHED)

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        """Serve callbacks until the condition holds."""
        assert spin_until(self.node, condition, seconds), (
            "the condition did not become true in time"
        )

    def is_up(self) -> bool:
        """Whether the node's services can be called."""
        return all(c.service_is_ready() for c in (self._change, self._state, self._set))

    def call(
        self, client: Any, request: Any, again: bool = False, seconds: float = PATIENCE_S
    ) -> Any:
        """Call a service. Responses during discovery can be lost: `again` repeats the call."""
        self.wait(client.service_is_ready)
        futures = [client.call_async(request)]
        if again and not spin_until(self.node, futures[0].done, PATIENCE_S / 2):
            futures.append(client.call_async(request))
        self.wait(lambda: any(future.done() for future in futures), seconds)
        return next(future.result() for future in futures if future.done())

    def transition(self, id: int) -> bool:
        """Request a transition of the lifecycle; return whether it took place."""
        request = ChangeState.Request(transition=Transition(id=id))
        # To configure takes long on a loaded machine.
        return self.call(self._change, request, seconds=START_S).success

    def state(self) -> str:
        """The node's lifecycle state."""
        return self.call(self._state, GetState.Request(), again=True).current_state.label

    def start(self) -> None:
        """Activate the node."""
        self.state()  # a repeatable call first: the node then knows this peer and loses no response
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)

    def activate(self) -> None:
        """Activate the node and wait until it subscribes to this camera."""
        self.start()
        self.wait(self.is_heard)

    def is_heard(self) -> bool:
        """Whether the node has subscribed to all that this camera publishes."""
        outputs = (self._rgb, self._depth, self._labels, self._info)
        return all(p.get_subscription_count() for p in outputs)

    def set_parameters(self, **values: Any) -> list[str]:
        """Set parameters; return the reasons of refusals."""
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results = self.call(self._set, request, again=True).results
        return [r.reason for r in results if not r.successful]

    def send(self, scene: Scene, step_ns: int = 100_000_000) -> Header:
        """Publish one frame, a step later than the last; return its header."""
        self.stamp_ns += step_ns
        header = Header(frame_id=scene.frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(self.stamp_ns, 10**9)
        for publisher, message in (
            (self._info, scene.camera_info()),
            (self._rgb, scene.rgb),
            (self._depth, scene.depth),
            (self._labels, scene.labels),
        ):
            message.header = header
            publisher.publish(message)
        return header

    def answer(self, scene: Scene) -> ObjectEstimateArray:
        """Send a frame and wait for its objects."""
        header = self.send(scene)
        return self.answer_to(header)

    def answer_to(self, header: Header) -> ObjectEstimateArray:
        """The objects of a frame."""
        found: list[ObjectEstimateArray] = []

        def arrived() -> bool:
            found.extend(m for m in self.received["objects"] if m.header == header)
            return bool(found)

        self.wait(arrived)
        return found[0]

    def diagnosis(self, name: str, text: str) -> DiagnosticStatus:
        """Wait for a diagnostic status of this name whose message or values contain a text."""
        self.received["diagnostics"].clear()
        found: list[DiagnosticStatus] = []

        def reported() -> bool:
            for message in self.received["diagnostics"]:
                found.extend(
                    s
                    for s in message.status
                    if s.name == f"crisp: {name}"
                    and (text in s.message or any(text in v.value for v in s.values))
                )
            return bool(found)

        assert spin_until(self.node, reported, PATIENCE_S), (
            f"no diagnosis {text!r} of {name}; the last: {self._last_diagnosis(name)}"
        )
        return found[-1]

    def _last_diagnosis(self, name: str) -> str:
        statuses = (s for m in self.received["diagnostics"] for s in m.status)
        return str([s for s in statuses if s.name.endswith(name)][-1:])


def image(pixels: np.ndarray, encoding: str) -> Image:
    """An image message of an array's bytes."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding)
    message.step = pixels.nbytes // height
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


class Scene:
    """A frame to send: flat rectangles at known depths in front of a wall.

    Args:
        objects: label -> (left, top, right, bottom, depth in metres).
        shape: goes into the fake estimator's shape codes.
        flip: the fake estimator turns the symmetric object by half a turn.
    """

    def __init__(
        self,
        objects: dict[int, tuple[int, int, int, int, float]] | None = None,
        shape: int = 0,
        flip: bool = False,
    ) -> None:
        objects = {1: (20, 30, 60, 70, 0.5), 2: (90, 40, 130, 100, 0.8)} if not objects else objects
        depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
        labels = np.zeros((HEIGHT, WIDTH), np.int32)
        for label, (left, top, right, bottom, metres) in objects.items():
            depth[top:bottom, left:right] = metres
            labels[top:bottom, left:right] = label
        rgb = np.full((HEIGHT, WIDTH, 3), 80, np.uint8)
        rgb[0, 0] = shape, int(flip), 0
        self.objects = objects
        self.frame_id = CAMERA_FRAME
        self.focal = FOCAL
        self.rgb = image(rgb, "rgb8")
        self.depth_m = depth
        self.depth = image(depth, "32FC1")
        self.labels = image(labels, "32SC1")

    def camera_info(self) -> CameraInfo:
        """The calibration."""
        f = self.focal
        return CameraInfo(
            width=WIDTH,
            height=HEIGHT,
            k=[f, 0.0, CX, 0.0, f, CY, 0.0, 0.0, 1.0],
            p=[f, 0.0, CX, 0.0, 0.0, f, CY, 0.0, 0.0, 0.0, 1.0, 0.0],
        )

    def centre(self, label: int) -> tuple[float, float, float]:
        """Return the position of an object for the fake estimator: the mean of its points."""
        left, top, right, bottom, z = self.objects[label]
        u, v = (left + right - 1) / 2, (top + bottom - 1) / 2
        return (u - CX) / FOCAL * z, (v - CY) / FOCAL * z, z


@contextmanager
def node_process(
    domain: int, script: Path | None, arguments: Sequence[str] = (), log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script, or without one the real executable, as another process.

    What it writes goes into `log`, if given.
    """
    test = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([str(test), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(script)] if script else ["-m", "crisp_ros.node.main"]
    with log.open("wb") if log else nullcontext() as output:
        process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            env=environment,
            cwd=test.parent,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextmanager
def graph(
    script: Path | None, arguments: Sequence[str] = (), ns: str = ""
) -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    """The node in its own process and a peer in this one, in a domain of their own."""
    with isolated_node("peer") as node:
        with node_process(node.context.get_domain_id(), script, arguments) as process:
            peer = Peer(node, ns)
            peer.wait(lambda: peer.is_up() or process.poll() is not None, START_S)
            assert process.poll() is None, "the node did not start"
            yield peer, process
