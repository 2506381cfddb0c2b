"""Our messages and services: their fields, which others rely on, and their way through DDS."""

import pytest

pytest.importorskip("rclpy")

from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray, ObjectMesh  # noqa: E402
from crisp_ros.srv import (  # noqa: E402
    DumpFrame,
    EstimateObjects,
    ExportMeshes,
    HoldObjects,
    SaveCheckpoint,
)
from geometry_msgs.msg import Point  # noqa: E402
from ros_graph import isolated_node, spin_until  # noqa: E402
from shape_msgs.msg import Mesh, MeshTriangle  # noqa: E402

FIELDS = {
    ObjectEstimate: {
        "id": "string",
        "child_frame_id": "string",
        "class_name": "string",
        "label": "int32",
        "pose": "geometry_msgs/PoseWithCovariance",
        "size": "geometry_msgs/Vector3",
        "score": "float",
        "certified": "boolean",
        "certificate_residual": "float",
        "certificate_quantile": "float",
        "certificate_threshold": "float",
        "reason": "string",
        "orientation_certified": "boolean",
        "orientation_reason": "string",
        "degenerate": "boolean",
        "smallest_eigenvalue": "float",
        "shape_source": "string",
        "views_used": "uint32",
        "mesh_version": "uint32",
    },
    ObjectEstimateArray: {
        "header": "std_msgs/Header",
        "estimates": "sequence<crisp_ros/ObjectEstimate>",
        "model_version": "string",
        "stage_names": "sequence<string>",
        "stage_ms": "sequence<float>",
    },
    ObjectMesh: {
        "id": "string",
        "mesh_version": "uint32",
        "mesh": "shape_msgs/Mesh",
        "shape_code": "sequence<float>",
    },
}
ANSWER = {"success": "boolean", "message": "string"}
SERVICE_FIELDS = {
    DumpFrame: ({"path": "string"}, {**ANSWER, "path": "string"}),
    EstimateObjects: (
        {"timeout": "float", "with_meshes": "boolean"},
        {
            **ANSWER,
            "objects": "crisp_ros/ObjectEstimateArray",
            "meshes": "sequence<crisp_ros/ObjectMesh>",
        },
    ),
    ExportMeshes: (
        {"directory": "string", "format": "string", "ids": "sequence<string>"},
        {**ANSWER, "files": "sequence<string>"},
    ),
    HoldObjects: (
        {"ids": "sequence<string>", "hold": "boolean"},
        {**ANSWER, "held": "sequence<string>"},
    ),
    SaveCheckpoint: ({"path": "string"}, {**ANSWER, "path": "string", "model_version": "string"}),
}


@pytest.mark.parametrize("message", FIELDS, ids=lambda message: message.__name__)
def test_fields(message: type) -> None:
    assert message.get_fields_and_field_types() == FIELDS[message]


@pytest.mark.parametrize("service", SERVICE_FIELDS, ids=lambda service: service.__name__)
def test_service_fields(service: type) -> None:
    parts = (service.Request, service.Response)
    assert tuple(p.get_fields_and_field_types() for p in parts) == SERVICE_FIELDS[service]


def test_a_service_is_answered() -> None:
    def answer(
        request: EstimateObjects.Request, response: EstimateObjects.Response
    ) -> EstimateObjects.Response:
        response.success = request.with_meshes
        response.objects.estimates.append(ObjectEstimate(id="mug-3"))
        response.meshes.append(ObjectMesh(id="mug-3", mesh_version=2))
        return response

    with isolated_node() as node:
        node.create_service(EstimateObjects, "estimate", answer)
        client = node.create_client(EstimateObjects, "estimate")
        assert spin_until(node, client.service_is_ready)
        future = client.call_async(EstimateObjects.Request(with_meshes=True))
        assert spin_until(node, future.done)
        found = future.result()
        assert found.success and found.objects.estimates[0].id == found.meshes[0].id == "mug-3"


def test_estimates_and_meshes_arrive_as_they_were_sent() -> None:
    estimate = ObjectEstimate(id="mug-3", certified=True, certificate_residual=0.00390625, label=-1)
    estimate.pose.pose.position.z = 0.8
    estimate.pose.covariance[35] = 0.5
    array = ObjectEstimateArray(estimates=[estimate], stage_names=["network"], stage_ms=[12.5])
    array.header.frame_id = "camera"
    triangle = MeshTriangle(vertex_indices=[0, 1, 2])
    mesh = ObjectMesh(
        id="mug-3",
        mesh_version=2,
        mesh=Mesh(triangles=[triangle], vertices=[Point(x=float(i)) for i in range(3)]),
        shape_code=[0.25, -1.5],
    )
    received: list[ObjectEstimateArray | ObjectMesh] = []
    with isolated_node() as node:
        for number, message in enumerate([array, mesh]):
            node.create_subscription(type(message), f"topic{number}", received.append, 1)
            publisher = node.create_publisher(type(message), f"topic{number}", 1)
            assert spin_until(node, lambda p=publisher: p.get_subscription_count() == 1)
            publisher.publish(message)
            assert spin_until(node, lambda count=number + 1: len(received) == count)
    assert received == [array, mesh]
