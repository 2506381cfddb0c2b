"""What the corrector does for pose and shape on frames whose truth is known (Table 10)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros import __version__
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject
from crisp_ros.evaluation.library_quality import decoded_mesh
from crisp_ros.evaluation.metrics import chamfer, rotation_error
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.geometry.se3 import invert
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings, ObjectEstimate, Solution
from crisp_ros.tracking.depth_points import depth_points
from crisp_ros.tracking.tracker import Tracker

NO_CORRECTOR = "no corrector"
ALGORITHM_1 = "Alg. 1: gradient, projected gradient"
ALGORITHM_2 = "Alg. 2: gradient, LSQ"
SECOND_ORDER = "second order, LSQ"
TURNED = "the same, turned as the image shows (the node)"
MULTI_VIEW = "the same, shape from all views so far"
METHODS = (NO_CORRECTOR, ALGORITHM_1, ALGORITHM_2, SECOND_ORDER, TURNED, MULTI_VIEW)
SETTINGS: Mapping[str, CorrectorSettings] = {
    ALGORITHM_1: CorrectorSettings(solver="gradient", shape="projected_gradient", rounds=2),
    ALGORITHM_2: CorrectorSettings(solver="gradient", shape="lsq", shape_ratio=math.inf),
    SECOND_ORDER: CorrectorSettings(),
}
MIN_VISIBLE_SHARE = 0.1
SEVERAL_VIEWS = 3
_SURFACE_SAMPLES = 10_000
_VOXELS = 48
_FRAME_PERIOD_S = 0.25
_TURNED_RAD, _NEAR_RAD = math.radians(1.0), math.radians(30.0)


class Errors(NamedTuple):
    """Errors of one estimate, metres and radians; of a missed object all infinite.

    e_pose_m: L1 Chamfer distance, mean of both directions of nearest Euclidean distances, between
    the true surface at the estimated and at the true pose. e_shape_m: the same between estimated
    and true surface in the object frame. add_s_m: the one direction of e_pose from the truth.
    rotation_rad: smallest over the object's symmetries. shape: name of the library shape that is
    estimated, "" for another code.
    """

    e_pose_m: float
    e_shape_m: float
    add_s_m: float
    rotation_rad: float
    shape: str

    def to_json(self) -> list[Any]:
        """The fields in their order; null for infinite ones."""
        return [None if v == math.inf else v for v in self]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Errors:
        return cls(*(math.inf if v is None else v for v in values))


MISSED = Errors(math.inf, math.inf, math.inf, math.inf, "")


@dataclass(frozen=True)
class Instance:
    """One object in one frame, and the errors of every method that was run on it.

    Attributes:
        scene: its frames' name. frame: index in it. name: of the object.
        certified: the node's estimate is. reason: why it is not.
        errors: by method.
    """

    scene: str
    frame: int
    name: str
    visible_share: float
    certified: bool
    reason: str
    errors: Mapping[str, Errors]

    def to_json(self) -> dict[str, Any]:
        share = None if math.isnan(self.visible_share) else self.visible_share
        errors = {method: found.to_json() for method, found in self.errors.items()}
        return {**vars(self), "visible_share": share, "errors": errors}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Instance:
        share = values["visible_share"]
        errors = {method: Errors.from_json(v) for method, v in values["errors"].items()}
        return cls(
            **{
                **values,
                "visible_share": math.nan if share is None else share,
                "errors": errors,
            }
        )


class _Estimate(NamedTuple):
    T_camera_object: NDArray[np.float64]
    code: Tensor


def _told(estimate: ObjectEstimate) -> _Estimate:
    return _Estimate(estimate.T_camera_object, torch.from_numpy(estimate.code))


class CorrectorStudy:
    """Measures all methods on frames; shapes that come back are compared with the truth once."""

    def __init__(
        self,
        model: Model,
        shapes: Mapping[str, TrueShape],
        device: torch.device | str = "cpu",
    ) -> None:
        """Takes a model into use.

        Args:
            model: with a shape library.
            shapes: true ones by name.
            device: of the estimator.

        Raises:
            ValueError: the model has no shape library.
        """
        if model.library is None:
            raise ValueError("the model has no shape library, which the shape solvers need")
        self._estimator = Estimator(model, EstimatorSettings(), device)
        self._decoder = model.network.decoder
        self._library: ShapeLibrary = model.library.to(device)
        self._shapes = shapes
        self._trees: dict[str, cKDTree] = {}
        self._shape_errors: dict[tuple[str, bytes], float] = {}

    @property
    def made_from(self) -> str:
        """Everything that the errors depend on besides the frames, as text."""
        return f"{__version__} {self.model_version} {self._estimator.settings} {SETTINGS}"

    @property
    def model_version(self) -> str:
        """See `Estimator.model_version`."""
        return self._estimator.model_version

    def measured(
        self,
        scene: str,
        frames: Sequence[RecordedFrame],
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Instance]:
        """The instances of a sequence whose truth is known.

        Frames that know where the camera is are tracked as well; objects of which less than a tenth
        is visible are left out.
        """
        settings = self._estimator.settings
        tracker = None
        if all(frame.T_world_camera is not None for frame in frames):
            tracker = Tracker(
                self._decoder,
                self._library,
                certificate=settings.certificate,
                visibility=settings.visibility,
                device=self._estimator.device,
            )
        found: list[Instance] = []
        for index, recorded in enumerate(frames):
            frame = Frame.from_recorded(recorded)
            estimates: dict[str, dict[int, _Estimate]] = {}
            self._estimator.settings = dataclasses.replace(
                settings, symmetry_search=None
            )
            for solution in self._estimator.trace(frame).solutions:
                self._correct(solution, estimates)
            self._estimator.settings = settings
            trace = self._estimator.trace(frame)
            verdicts = {e.label: e for e in trace.estimate.objects}
            estimates[TURNED] = {label: _told(e) for label, e in verdicts.items()}
            if tracker is not None:
                tracked = tracker.update(
                    index * _FRAME_PERIOD_S,
                    trace.estimate.objects,
                    recorded.T_world_camera,
                    depth=depth_points(trace, frame),
                )
                estimates[MULTI_VIEW] = {
                    o.estimate.label: _told(o.estimate) for o in tracked.objects
                }
            for true in recorded.truth:
                if true.visible_share < MIN_VISIBLE_SHARE:
                    continue
                verdict = verdicts.get(true.label)
                methods = METHODS if tracker is not None else METHODS[:-1]
                found.append(
                    Instance(
                        scene,
                        index,
                        true.name,
                        true.visible_share,
                        verdict is not None and verdict.certified,
                        verdict.reason if verdict is not None else "not estimated",
                        {
                            method: self._errors(true, estimates.get(method, {}).get(true.label))
                            for method in methods
                        },
                    )
                )
            on_frame(index + 1, len(frames))
        return found

    def _correct(self, solution: Solution, estimates: dict[str, dict[int, _Estimate]]) -> None:
        """Adds what each single-view method makes of the same points and network output."""
        seen = solution.observations
        poses = {NO_CORRECTOR: (solution.registration.T_object_camera, solution.codes)}
        for method, settings in SETTINGS.items():
            correction = solution.correction
            if settings != self._estimator.settings.corrector:
                correction = self._thinly_corrected(solution, settings)
            poses[method] = (correction.T_object_camera, correction.shapes.codes)
        for method, (T_object_camera, codes) in poses.items():
            T = invert(T_object_camera.double()).cpu().numpy()
            by_label = estimates.setdefault(method, {})
            for i, label in enumerate(seen.labels.tolist()):
                by_label[label] = _Estimate(T[i], codes[i].float().cpu())

    def _thinly_corrected(self, solution: Solution, settings: CorrectorSettings) -> Correction:
        """With as many points as the second-order solver iterates on: gradient steps are slow."""
        return correct(
            self._estimator.field,
            solution.correspondences.subsample(settings.second_order.points),
            Shapes.of_codes(solution.codes),
            solution.registration.T_object_camera,
            self._estimator.prepared_library,
            settings,
        )

    def _errors(self, true: TrueObject, estimate: _Estimate | None) -> Errors:
        if estimate is None:
            return MISSED
        shape = self._shapes[true.name]
        # In the true object frame the true surface stands still, and its tree is made once.
        motion = np.linalg.inv(true.T_camera_object) @ estimate.T_camera_object
        if true.name not in self._trees:
            self._trees[true.name] = cKDTree(shape.points)
        tree = self._trees[true.name]
        away = tree.query(trimesh.transform_points(shape.points, motion))[0].mean()
        back = tree.query(trimesh.transform_points(shape.points, np.linalg.inv(motion)))[0].mean()
        turned = rotation_error(
            estimate.T_camera_object[:3, :3], true.T_camera_object[:3, :3], shape.symmetries
        )
        return Errors(
            float(away + back) / 2.0,
            self._shape_error(true.name, estimate.code),
            float(back),
            float(turned),
            self._known_name(estimate.code),
        )

    def _known_name(self, code: Tensor) -> str:
        same = (self._library.codes.cpu() == code).all(-1).nonzero()
        return self._library.names[int(same[0])] if len(same) else ""

    def _shape_error(self, name: str, code: Tensor) -> float:
        key = (name, code.numpy().tobytes())
        if key not in self._shape_errors:
            code = code.to(self._library.codes.device)
            nearest = int(torch.cdist(code[None], self._library.codes).argmin())
            lower, upper = self._library.lower[nearest], self._library.upper[nearest]
            if not self._known_name(code.cpu()):
                room = 0.25 * (upper - lower).max()
                lower, upper = lower - room, upper + room
            mesh = decoded_mesh(self._decoder, code, lower, upper, IsosurfaceSettings(_VOXELS))
            error = math.inf
            if len(mesh.faces) > 0:
                rng = np.random.default_rng(0)
                points = trimesh.sample.sample_surface(mesh, _SURFACE_SAMPLES, seed=rng)[0]
                error = chamfer(points, self._shapes[name].points)
            self._shape_errors[key] = error
        return self._shape_errors[key]


class Row(NamedTuple):
    """One method on some instances: their number, those missed, and mean and median of the errors
    of the others; metres, radians."""

    method: str
    count: int
    missed: int
    e_pose_mean_m: float
    e_pose_median_m: float
    e_shape_mean_m: float
    e_shape_median_m: float
    add_s_median_m: float
    rotation_median_rad: float
    right_shape: float


def rows(instances: Sequence[Instance]) -> list[Row]:
    """The table of some instances, one row a method, over the instances that it was run on."""
    table = []
    for method in METHODS:
        of = [(i.name, i.errors[method]) for i in instances if method in i.errors]
        found = [(name, e) for name, e in of if e != MISSED]
        if not found:
            continue
        pose, shape, add_s, turn = (np.array([e[k] for _, e in found]) for k in range(4))
        table.append(
            Row(
                method,
                len(of),
                len(of) - len(found),
                float(pose.mean()),
                float(np.median(pose)),
                float(shape.mean()),
                float(np.median(shape)),
                float(np.median(add_s)),
                float(np.median(turn)),
                float(np.mean([name == e.shape for name, e in found])),
            )
        )
    return table


class Turns(NamedTuple):
    """Instances that the node turns, as the image shows: their number, and of these the shares
    whose rotation is within 30 degrees, and the median errors of rotation, before and after."""

    count: int
    near_before: float
    near_after: float
    rotation_before_rad: float
    rotation_after_rad: float


def turns(instances: Sequence[Instance]) -> Turns:
    """Those whose rotation is another one with than without; all zero where there are none."""
    found = [
        (i.errors[SECOND_ORDER].rotation_rad, i.errors[TURNED].rotation_rad) for i in instances
    ]
    both = np.array([pair for pair in found if abs(pair[0] - pair[1]) > _TURNED_RAD])
    if len(both) == 0:
        return Turns(0, 0.0, 0.0, 0.0, 0.0)
    near, middle = (both < _NEAR_RAD).mean(0), np.median(both, axis=0)
    return Turns(len(both), *near.tolist(), *middle.tolist())


class CertifiedShares(NamedTuple):
    """How far the node's certificate can be trusted: instances, the share of them that is
    certified, and of these the shares within 1 cm and 2 cm ADD-S."""

    count: int
    certified: float
    within_1cm: float
    within_2cm: float


def certified_shares(instances: Sequence[Instance]) -> CertifiedShares:
    """The shares over at least one instance; those of no certified one are zero."""
    errors = np.array([i.errors[TURNED].add_s_m for i in instances if i.certified])
    return CertifiedShares(
        len(instances),
        len(errors) / len(instances),
        float(np.mean(errors <= 0.01)) if len(errors) else 0.0,
        float(np.mean(errors <= 0.02)) if len(errors) else 0.0,
    )
