"""The grasp of docs/planners.md, run as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from crisp_ros.msg import ObjectEstimate
from node.fakes import estimate, tracked
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs import message_conversion
from crisp_ros.node.outputs.published_objects import PublishedObject

PAGE = Path(__file__).parents[3] / "docs" / "planners.md"


@pytest.fixture(scope="module")
def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def functions(snippet: str) -> dict[str, Any]:
    """Imports and functions of a snippet, without their calls."""
    namespace: dict[str, Any] = {}
    exec(compile(snippet.split("\nrclpy.init()")[0], PAGE.name, "exec"), namespace)
    return namespace


def test_the_fingers_close_on_the_narrower_side_from_above(snippets: list[str]) -> None:
    edges = np.array([0.12, 0.05, 0.08])
    solid = trimesh.creation.box(edges)
    solid.apply_translation((0.01, 0.02, 0.03))  # not centred, as few models are
    mesh = TriangleMesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32))
    T = np.eye(4)
    # Its z axis up where the camera's y axis points down, rotated about it by 0.5 rad.
    T[:3, :3] = (Rotation.from_euler("x", np.pi / 2) * Rotation.from_euler("z", 0.5)).as_matrix()
    T[:3, 3] = 0.1, 0.05, 0.7
    known = PublishedObject(tracked("box_1", estimate(1, T)))
    header = Header(frame_id="camera")
    (message,) = message_conversion.object_estimates(header, [known], "", "v", {}).estimates
    assert isinstance(message, ObjectEstimate)
    up = np.array([0.0, -1.0, 0.0])
    grasp = functions(snippets[0])["top_grasp"]
    target, width = grasp(message, message_conversion.shape_mesh(mesh), header, up)
    assert width == pytest.approx(edges[1], abs=1e-6) and target.header == header
    p, q = target.pose.position, target.pose.orientation
    R = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    np.testing.assert_allclose(R[:, 2], -up, atol=1e-9)
    assert abs(R[:, 1] @ T[:3, 1]) == pytest.approx(1.0, abs=1e-6)
    top = T[:3, :3] @ [0.01, 0.02, 0.03 + edges[2] / 2] + T[:3, 3]
    np.testing.assert_allclose((p.x, p.y, p.z), top - 0.02 * up, atol=1e-6)


def test_all_snippets_are_python(snippets: list[str]) -> None:
    assert len(snippets) == 3
    for snippet in snippets:
        compile(snippet, PAGE.name, "exec")
