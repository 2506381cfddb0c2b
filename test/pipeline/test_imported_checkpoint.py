"""A released checkpoint, imported by the command, estimates objects with and without library."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import roma
import torch
from analytic import AnalyticShape
from analytic_scene import Rendered, rendered
from known import Known, load_known
from moveit_msgs.msg import CollisionObject
from node.fakes import tracked
from readable_checkpoint import CROP, unit_code, write_checkpoint
from std_msgs.msg import Header

from crisp_ros.cli.main import main
from crisp_ros.evaluation.metrics import rotation_error
from crisp_ros.network.checkpoint import load_model
from crisp_ros.node.outputs.collision_objects import CollisionObjects, SceneFrame
from crisp_ros.node.outputs.mesh_worker import MeshWorker
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.pipeline import Estimator

SIZE_M = 0.11


class Imported(NamedTuple):
    """A checkpoint to import, and the scene that it answers rightly."""

    checkpoint: Path
    known: Known
    shape: AnalyticShape
    pose: np.ndarray
    scene: Rendered


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """A checkpoint of normalised shapes that answers one frame of a mug rightly, on disk."""
    folder, known = tmp_path_factory.mktemp("imported"), load_known()
    (shape,) = known.named("mug")
    pose = np.eye(4)
    pose[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([2.2, 0.5, -0.4])).numpy()
    pose[:3, 3] = (0.04, -0.03, 0.5)
    scene = rendered([shape], [pose], [3])
    write_checkpoint(folder / "checkpoint.pth", known, shape.name, scene, SIZE_M)
    return Imported(folder / "checkpoint.pth", known, shape, pose, scene)


def estimator_of(imported: Imported, output: Path, *options: str) -> Estimator:
    """Import the checkpoint by the command."""
    common = ["--shapes", "normalised", "--crop-size", str(CROP), "--output", str(output)]
    assert main(["import-official", str(imported.checkpoint), *common, *options]) == 0
    estimator = Estimator(load_model(output))
    estimator.warm_up()
    return estimator


def test_two_commands_to_a_network_of_any_object(imported: Imported, tmp_path: Path) -> None:
    """Normalised shapes get their size from the depth: pose, certificate and mesh are metric."""
    _, _, shape, pose, scene = imported
    estimator = estimator_of(imported, tmp_path / "model.safetensors", "--no-library")
    (estimate,) = estimator.estimate(scene.frame).objects
    assert estimate.label == 3 and estimate.certified and estimate.residual_m < 0.005
    assert abs(estimate.code[-1] / SIZE_M - 1) < 0.03
    assert np.abs(estimate.T_camera_object[:3, 3] - pose[:3, 3]).max() < 0.003
    assert np.degrees(rotation_error(estimate.T_camera_object[:3, :3], pose[:3, :3])) < 3
    # Half a degree and a millimetre, not radians or units: the covariance is of metres too.
    deviations = np.sqrt(np.diag(estimate.covariance))
    assert (deviations[:3] < 0.01).all() and (deviations > 1e-5).all()
    assert np.abs(estimate.upper - np.array(shape.upper)).max() < 0.01
    mesh = estimator.mesh(estimate)
    distances = shape.sdf(torch.as_tensor(mesh.vertices).double()).abs()
    assert distances.mean() < 0.003 and distances.max() < 0.012
    # What is lost without a library: no name, no symmetries, no orientation.
    assert estimate.shape_index == -1 and not estimate.orientation_certified


def test_planners_get_an_obstacle_in_metres(imported: Imported, tmp_path: Path) -> None:
    _, _, shape, pose, scene = imported
    estimator = estimator_of(imported, tmp_path / "model.safetensors", "--no-library")
    (estimate,) = estimator.estimate(scene.frame).objects
    sent: list[CollisionObject] = []
    publisher = SimpleNamespace(publish=sent.append, get_subscription_count=lambda: 1)
    obstacles = CollisionObjects(publisher, MeshWorker(lambda mesh: [mesh], pytest.fail))
    obstacles.update(
        SceneFrame(Header(frame_id="camera"), np.eye(4), scene.frame),
        [PublishedObject(tracked("1", estimate))],
        lambda o, grown_m: estimator.meshes([o.shape], grown_m)[0],
        Parameters(collision_objects="certified", collision_padding=False, collision_shape="mesh"),
    )
    (message,) = sent
    (mesh,) = message.meshes
    corners = np.array([(p.x, p.y, p.z) for p in mesh.vertices])
    assert np.abs(corners.min(0) - np.array(shape.lower)).max() < 0.006
    assert np.abs(corners.max(0) - np.array(shape.upper)).max() < 0.006
    at = message.pose.position
    assert np.abs(np.array((at.x, at.y, at.z)) - pose[:3, 3]).max() < 0.003


def test_a_library_apart_gets_its_sizes_in_metres(imported: Imported, tmp_path: Path) -> None:
    """With `--library` and `--objects-info` the object has a name and the size in that file."""
    _, known, shape, pose, scene = imported
    codes, info = tmp_path / "shape_code_lib.pkl", tmp_path / "objects_info.yaml"
    codes.write_bytes(pickle.dumps({"mug": unit_code(known, "mug", SIZE_M).numpy()}))
    info.write_text(f"mug: {{recons_s_blender: {1 / SIZE_M}}}\n")
    options = ("--library", str(codes), "--objects-info", str(info))
    estimator = estimator_of(imported, tmp_path / "model.safetensors", *options)
    library = estimator.library
    assert library.names == ("mug",)
    assert float(library.codes[0, -1]) == pytest.approx(SIZE_M)
    assert np.abs(library.upper[0].numpy() - np.array(shape.upper)).max() < 0.006
    (estimate,) = estimator.estimate(scene.frame).objects
    assert estimate.certified and estimate.shape_index == 0
    assert np.abs(estimate.T_camera_object[:3, 3] - pose[:3, 3]).max() < 0.003
    vertices = torch.as_tensor(estimator.mesh(estimate).vertices).double()
    assert shape.sdf(vertices).abs().mean() < 0.003
