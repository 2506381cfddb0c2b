"""Registration of known CAD models to depth by Open3D, as a baseline without a network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.bop import BopFrame, BopModel
from crisp_ros.evaluation.frame_estimates import Estimated, FrameEstimates
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.validation import check_ranges, ranged

if TYPE_CHECKING:
    from open3d.geometry import PointCloud
    from open3d.pipelines.registration import Feature, RegistrationResult
    from open3d.t.geometry import RaycastingScene


@dataclass(frozen=True)
class CadRegistrationSettings:
    """Settings of the registration; lengths in voxels are edges of the grid that thins the points.

    Attributes:
        voxel_share: edge of the grid, in diameters of the model.
        feature_voxels: radius of the FPFH features, in voxels.
        inlier_voxels: largest distance of corresponding points of RANSAC, in voxels.
        iterations: of RANSAC.
        starts: RANSACs of different seeds; the pose with the best fit is kept.
        icp_voxels: largest distances of corresponding points of ICP, one after another, in voxels.
        fitness_m: a depth point nearer to the model than this counts for the fitness, metres.
        seed: of the first RANSAC.
        certificate: condition of the certificate, as for our estimates.
    """

    voxel_share: float = ranged(0.04, low=0.001, high=1.0)
    feature_voxels: float = ranged(5.0, low=1.0)
    inlier_voxels: float = ranged(1.5, low=0.1)
    iterations: int = ranged(50_000, low=1)
    starts: int = ranged(4, low=1)
    icp_voxels: tuple[float, ...] = (2.0, 0.7)
    fitness_m: float = ranged(0.005, low=1e-6)
    seed: int = 0
    certificate: CertificateSettings = CertificateSettings()

    def __post_init__(self) -> None:
        check_ranges(self)


class _Cloud(NamedTuple):
    """Thinned points with normals and features."""

    points: PointCloud
    features: Feature


class _Model(NamedTuple):
    """A CAD model prepared for registration.

    Attributes:
        mesh: object frame, metres.
        voxel_m: edge of the grid.
        cloud: of its surface.
        surface: for distances to it.
    """

    mesh: TriangleMesh
    voxel_m: float
    cloud: _Cloud
    surface: RaycastingScene


class CadRegistration:
    """FPFH features, RANSAC and point-to-plane ICP between the depth of a mask and its CAD model.

    It is given the id of each object, which the estimator has to find out.
    """

    def __init__(
        self, models: Mapping[int, BopModel], settings: CadRegistrationSettings | None = None
    ) -> None:
        self._models = models
        self._settings = settings or CadRegistrationSettings()
        self._prepared: dict[int, _Model] = {}

    def estimates(self, frame: BopFrame) -> FrameEstimates:
        """Register the model of each instance of an image; the score is the fitness."""
        found: dict[int, Estimated] = {}
        rejected: dict[int, str] = {}
        for instance in frame.instances:  # once per model, and not part of the time of an image
            self._model(instance.obj_id)
        start = time.perf_counter()
        for instance in frame.instances:
            points = _depth_points(frame, instance.label)
            model = self._model(instance.obj_id)
            T = register(points, model, self._settings)
            if T is None:
                rejected[instance.label] = "too few depth points for a registration"
                continue
            in_object = transform(invert(T), points).astype(np.float32)
            distances = model.surface.compute_distance(in_object).numpy()
            certificate = self._settings.certificate
            found[instance.label] = Estimated(
                frame.rgb,
                frame.labels,
                frame.intrinsics,
                instance.label,
                T,
                model.mesh,
                bool(np.quantile(distances, certificate.quantile) <= certificate.threshold_m),
                float((distances < self._settings.fitness_m).mean()),
            )
        return FrameEstimates(found, rejected, time.perf_counter() - start)

    def _model(self, obj_id: int) -> _Model:
        if obj_id not in self._prepared:
            model = self._models[obj_id]
            voxel_m = self._settings.voxel_share * model.diameter_m
            self._prepared[obj_id] = _prepared(model.mesh, voxel_m, self._settings)
        return self._prepared[obj_id]


def register(
    points: NDArray[np.float32], model: _Model, settings: CadRegistrationSettings
) -> NDArray[np.float64] | None:
    """Find the pose (4, 4) of a model, metres; None if no three correspondences agree.

    Args:
        points: (N, 3) depth points of the object, camera frame, metres.
        model: prepared for registration.
        settings: see `CadRegistrationSettings`.
    """
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud, _ = cloud.voxel_down_sample(model.voxel_m).remove_statistical_outlier(20, 2.0)
    if len(cloud.points) < 10:
        return None
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamHybrid(2.0 * model.voxel_m, 30))
    cloud.orient_normals_towards_camera_location(np.zeros(3))
    seen = _Cloud(cloud, _features(cloud, model.voxel_m, settings))
    best = None
    for start in range(settings.starts):
        open3d.utility.random.seed(settings.seed + start)
        found = _refined(seen, model, _coarse(seen, model, settings), settings)
        if len(found.correspondence_set) and (
            best is None or (found.fitness, -found.inlier_rmse) > (best.fitness, -best.inlier_rmse)
        ):
            best = found
    return None if best is None else invert(np.asarray(best.transformation))


def _coarse(seen: _Cloud, model: _Model, settings: CadRegistrationSettings) -> RegistrationResult:
    """RANSAC over correspondences of features, from the depth points to the model."""
    from open3d.pipelines import registration

    distance = settings.inlier_voxels * model.voxel_m
    return registration.registration_ransac_based_on_feature_matching(
        seen.points,
        model.cloud.points,
        seen.features,
        model.cloud.features,
        mutual_filter=False,
        max_correspondence_distance=distance,
        estimation_method=registration.TransformationEstimationPointToPoint(False),
        ransac_n=3,
        checkers=[
            registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
            registration.CorrespondenceCheckerBasedOnDistance(distance),
        ],
        criteria=registration.RANSACConvergenceCriteria(settings.iterations, 0.999),
    )


def _refined(
    seen: _Cloud, model: _Model, coarse: RegistrationResult, settings: CadRegistrationSettings
) -> RegistrationResult:
    """Point-to-plane ICP with decreasing distances."""
    from open3d.pipelines import registration

    found = coarse
    for voxels in settings.icp_voxels:
        found = registration.registration_icp(
            seen.points,
            model.cloud.points,
            voxels * model.voxel_m,
            found.transformation,
            registration.TransformationEstimationPointToPlane(),
        )
    return found


def _prepared(mesh: trimesh.Trimesh, voxel_m: float, settings: CadRegistrationSettings) -> _Model:
    import open3d

    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    surface = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices.astype(np.float64)),
        open3d.utility.Vector3iVector(faces),
    )
    surface.compute_triangle_normals()
    open3d.utility.random.seed(settings.seed)
    count = max(int(8 * surface.get_surface_area() / voxel_m**2), 1000)
    points = surface.sample_points_uniformly(count, use_triangle_normal=True)
    points = points.voxel_down_sample(voxel_m)
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces.astype(np.uint32)))
    cloud = _Cloud(points, _features(points, voxel_m, settings))
    return _Model(TriangleMesh(vertices, faces), voxel_m, cloud, scene)


def _features(cloud: PointCloud, voxel_m: float, settings: CadRegistrationSettings) -> Feature:
    import open3d

    radius = open3d.geometry.KDTreeSearchParamHybrid(settings.feature_voxels * voxel_m, 100)
    return open3d.pipelines.registration.compute_fpfh_feature(cloud, radius)


def _depth_points(frame: BopFrame, label: int) -> NDArray[np.float32]:
    """Depth points (N, 3) of a mask in the camera frame, metres."""
    v, u = np.nonzero((frame.labels == label) & (frame.depth > 0.0))
    rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(frame.intrinsics).T
    return (rays * frame.depth[v, u, None]).astype(np.float32)
