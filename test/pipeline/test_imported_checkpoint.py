"""A released checkpoint, imported by the command, estimates objects without any library."""

from pathlib import Path

import numpy as np
import roma
import torch
from analytic_scene import rendered
from known import load_known
from readable_checkpoint import CROP, write_checkpoint

from crisp_ros.cli.main import main
from crisp_ros.evaluation.metrics import rotation_error
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import Estimator

SIZE_M = 0.11


def test_two_commands_to_a_network_of_any_object(tmp_path: Path) -> None:
    """Normalised shapes get their size from the depth: pose, certificate and mesh are metric."""
    known = load_known()
    (shape,) = known.named("mug")
    pose = np.eye(4)
    pose[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([2.2, 0.5, -0.4])).numpy()
    pose[:3, 3] = (0.04, -0.03, 0.5)
    scene = rendered([shape], [pose], [3])
    checkpoint, output = tmp_path / "checkpoint.pth", tmp_path / "model.safetensors"
    write_checkpoint(checkpoint, known, shape.name, scene, SIZE_M)
    options = ["--shapes", "normalised", "--crop-size", str(CROP), "--no-library"]
    assert main(["import-official", str(checkpoint), "--output", str(output), *options]) == 0

    estimator = Estimator(load_model(output))
    estimator.warm_up()
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
