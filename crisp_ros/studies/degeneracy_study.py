"""The shape of a mug by the visibility of its handle: when is it unambiguous? (Fig. 9)

Views around a mug of the library are compared with its twin without the handle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.benchmark.sphere_tracing import Viewpoint, shape_view
from crisp_ros.correction.active_shape import library_fits
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.degeneracy import Degeneracy, degeneracy, explanations
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.studies.key_frames import KeyFrame, MugViews, key_frames
from crisp_ros.studies.study_error import StudyError
from crisp_ros.training.library_quality import (
    BoxedShape,
    FitError,
    fit_error,
    library_pairs,
)
from crisp_ros.training.mesh_codes import fit_mesh_code

MUG, CUP = "025_mug", "mug without handle"
_CUT_M = 0.002  # outside the mug's body


@dataclass(frozen=True)
class DegeneracyStudySettings:
    """Settings of `degeneracy_study`.

    Attributes:
        views: from the handle hidden behind the mug to the handle in front.
        points: of a view.
        noise_m: standard deviation of depth.
        elevation: of the camera above the mug, radians.
        distance_m: of the camera.
        seed: of points and noise.
    """

    views: int = 31
    points: int = 1000
    noise_m: float = 0.001
    elevation: float = float(np.deg2rad(20.0))
    distance_m: float = 0.6
    seed: int = 0


class Eigenvalues(NamedTuple):
    """Least eigenvalues of F^T F; see `Degeneracy`.

    Attributes:
        paper: in the whole space, square metres, as in the paper.
        tangent: in the tangent space of the simplex.
    """

    paper: float
    tangent: float


class StudiedView(NamedTuple):
    """One view of the mug.

    Attributes:
        angle: of the rotation about the mug's axis, radians, zero with the handle hidden.
        handle_share: share of the points that are on the handle.
        pair: for the mug and its twin without handle.
        pooled_pair: the same with the points of all views so far.
        library: for all shapes.
        residual_m: 98 % quantile of |sdf| of every shape at its own best pose.
        certifying: shapes whose residual is within eps.
        degenerate: see `Explanations`.
        image: (S, S) NaN for the background, otherwise brightness 0 to 1, plus 1 on the handle.
    """

    angle: float
    handle_share: float
    pair: Eigenvalues
    pooled_pair: Eigenvalues
    library: Eigenvalues
    residual_m: dict[str, float]
    certifying: tuple[str, ...]
    degenerate: bool
    image: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DegeneracyStudy:
    """Views around the mug, and the quality of its twin.

    Attributes:
        views: by angle.
        twin_error: of the decoded twin to its mesh.
        twin_chamfer_m: between the surfaces of the mug and its twin.
        threshold_m: eps of the certificate.
        quantile: p of the certificate.
        settings: of the study.
        key_frames: the same views estimated with a network; empty without one.
    """

    views: tuple[StudiedView, ...]
    twin_error: FitError
    twin_chamfer_m: float
    threshold_m: float
    quantile: float
    settings: DegeneracyStudySettings
    key_frames: tuple[KeyFrame, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the images."""
        return {
            "shapes": f"{MUG} of the model's library and its twin, {CUP!r}: the mug's decoded "
            "surface cut off outside its body, given a code of the same decoder",
            "points": "seen by a camera that walks round the decoded mug (sphere tracing), with "
            "normal noise along the optical axis; no network is involved but in key_frames",
            "settings": asdict(self.settings),
            "twin_fit": self.twin_error._asdict(),
            "twin_chamfer_m": self.twin_chamfer_m,
            "threshold_m": self.threshold_m,
            "quantile": self.quantile,
            "views": [
                {
                    "turn_deg": float(np.rad2deg(view.angle)),
                    "handle_share": view.handle_share,
                    "pair": view.pair._asdict(),
                    "pooled_pair": view.pooled_pair._asdict(),
                    "library": view.library._asdict(),
                    "residual_m": {MUG: view.residual_m[MUG], CUP: view.residual_m[CUP]},
                    "certifying": list(view.certifying),
                    "degenerate": view.degenerate,
                }
                for view in self.views
            ],
            "key_frames": [frame.to_json() for frame in self.key_frames],
        }


class _Body(NamedTuple):
    """A cylinder around a mug's body, its axis along z; the handle is outside, towards +x.

    Attributes:
        x: of the axis.
        y: of the axis.
        radius: metres.
    """

    x: float
    y: float
    radius: float

    @classmethod
    def of_box(cls, lower: Tensor, upper: Tensor) -> _Body:
        """Find the body in a mug's box, of which the handle extends only one side."""
        radius = float(upper[1] - lower[1]) / 2
        middle = float(upper[1] + lower[1]) / 2
        return cls(float(lower[0]) + radius, middle, radius + _CUT_M)

    def sdf(self, points: Tensor) -> Tensor:
        return torch.hypot(points[..., 0] - self.x, points[..., 1] - self.y) - self.radius


def degeneracy_study(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    settings: DegeneracyStudySettings | None = None,
    on_view: Callable[[int, int], None] = lambda done, total: None,
    model: Model | None = None,
) -> DegeneracyStudy:
    """View the library's mug from all sides and find the shapes that explain each view.

    Args:
        decoder: f_d.
        library: with the YCB mug, its handle towards +x.
        settings: see `DegeneracyStudySettings`.
        on_view: called with the views done and their number.
        model: of decoder and library, whose network estimates the views as key frames; None
            leaves them out.

    Raises:
        StudyError: the library has no such mug, or no colours of it for a network to see.
    """
    settings = settings or DegeneracyStudySettings()
    if MUG not in library.names:
        raise StudyError(f"the model's library has no {MUG}, only {', '.join(library.names)}")
    mug = library.names.index(MUG)
    body = _Body.of_box(library.lower[mug], library.upper[mug])
    mesh = _without_handle(decoder, library, mug, body)
    code = fit_mesh_code(decoder, library.codes, mesh, seed=settings.seed).code
    twin, certificate = BoxedShape.of_code(decoder, code), CertificateSettings()
    twin_error = fit_error(decoder, twin, mesh, certificate.quantile, settings.seed)
    everything = library.with_shape(CUP, *twin)
    field = DecoderField(decoder)
    pair = PreparedLibrary(field, everything.subset((MUG, CUP)))
    viewed = _ViewedMug(field, PreparedLibrary(field, everything), pair, mug, body, certificate)
    generator = torch.Generator().manual_seed(settings.seed)
    views: list[StudiedView] = []
    seen: list[Tensor] = []
    for angle in np.linspace(0.0, np.pi, settings.views).tolist():
        image, points, T = _visible_points(
            decoder, library.codes[mug], body, angle, settings, generator
        )
        seen.append(transform(T, points))
        views.append(viewed.view(angle, image, points, T, torch.cat(seen, dim=1)))
        on_view(len(views), settings.views)
    (between,) = library_pairs(decoder, pair.library)
    frames: tuple[KeyFrame, ...] = ()
    if model is not None:
        seen_from = _key_frame_views(mug, body, [view.angle for view in views], settings)
        frames = key_frames(model, seen_from, pair, viewed.known, certificate)
    return DegeneracyStudy(
        tuple(views),
        twin_error,
        between.chamfer_m,
        certificate.threshold_m,
        certificate.quantile,
        settings,
        frames,
    )


def _key_frame_views(
    mug: int, body: _Body, angles: list[float], settings: DegeneracyStudySettings
) -> MugViews:
    return MugViews(
        mug,
        (body.x, body.y),
        angles,
        settings.elevation,
        settings.distance_m,
        settings.noise_m,
        settings.seed,
    )


@dataclass(frozen=True)
class _ViewedMug:
    """The shapes that are compared with each view of the mug.

    Attributes:
        field: f_d.
        known: the library with the twin.
        pair: the mug and its twin.
        mug: index of the mug in the library.
        body: of the mug, without handle.
        certificate: of a view.
    """

    field: DecoderField
    known: PreparedLibrary
    pair: PreparedLibrary
    mug: int
    body: _Body
    certificate: CertificateSettings

    def view(
        self,
        angle: float,
        image: NDArray[np.float32],
        points: Tensor,
        T_object_camera: Tensor,
        pooled: Tensor,
    ) -> StudiedView:
        """Study one view.

        Args:
            angle: see `StudiedView`.
            image: see `StudiedView`.
            points: (1, N, 3) camera frame, metres.
            T_object_camera: (1, 4, 4).
            pooled: (1, M, 3) points of all views so far, object frame.
        """
        z = transform(T_object_camera, points)
        here = ObjectPoints.of(z, torch.ones(z.shape[:2], dtype=torch.bool))
        so_far = ObjectPoints.of(pooled, torch.ones(pooled.shape[:2], dtype=torch.bool))
        true_shape = self.known.shapes(torch.tensor([self.mug]))
        hypotheses = Hypotheses.of_points(points, here.valid, true_shape)
        correspondences = hypotheses.correspondences._replace(pnc=z)
        fits = library_fits(
            self.field, correspondences, self.known, T_object_camera, self.known.codes[:1]
        )
        hypotheses = hypotheses._replace(T_object_camera=fits.T_object_camera[:, self.mug])
        found = explanations(self.field, hypotheses, fits, self.known, self.certificate)
        names = self.known.names
        return StudiedView(
            angle,
            float((self.body.sdf(z) > 0).float().mean()),
            _eigenvalues(degeneracy(self.field, here, self.pair)),
            _eigenvalues(degeneracy(self.field, so_far, self.pair)),
            _eigenvalues(degeneracy(self.field, here, self.known)),
            dict(zip(names, found.residual[0].tolist(), strict=True)),
            tuple(names[k] for k in found.certified[0].nonzero().squeeze(-1).tolist()),
            bool(found.degenerate[0]),
            image,
        )


def _without_handle(
    decoder: ShapeDecoder, library: ShapeLibrary, mug: int, body: _Body
) -> trimesh.Trimesh:
    def cut(points: Tensor, _: Tensor) -> Tensor:
        return torch.maximum(decoder.sdf(points, library.codes[mug]), body.sdf(points))

    box = library.lower[mug][None], library.upper[mug][None]
    (mesh,) = extract_meshes(cut, *box, IsosurfaceSettings(voxels=128))
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def _visible_points(
    decoder: ShapeDecoder,
    code: Tensor,
    body: _Body,
    angle: float,
    settings: DegeneracyStudySettings,
    generator: torch.Generator,
) -> tuple[NDArray[np.float32], Tensor, Tensor]:
    """The image of a view, noisy points (1, N, 3), camera frame, and T_object_camera (1, 4, 4)."""
    view = Viewpoint(np.pi - angle, settings.elevation, settings.distance_m, (body.x, body.y, 0.0))
    found = shape_view(decoder, code, view, reach_m=0.12)
    T = view.T_object_camera[None]
    facing = (found.normals @ T[0, :3, :3])[:, 2].neg().clamp(0, 1)
    shade = 0.25 + 0.75 * facing + (body.sdf(found.points) > 0)
    shade = torch.where(found.hit, shade, torch.nan).reshape(view.side_px, view.side_px)
    visible = found.points[found.hit]
    chosen = torch.randperm(len(visible), generator=generator)[: settings.points]
    points = transform(invert(T), visible[chosen][None])
    noise = settings.noise_m * torch.randn(points.shape[:2], generator=generator)
    points = points + noise[..., None] * torch.tensor((0.0, 0.0, 1.0))
    return shade.numpy(), points, T


def _eigenvalues(found: Degeneracy) -> Eigenvalues:
    return Eigenvalues(float(found.eigenvalue[0]), float(found.tangent_eigenvalue[0]))
