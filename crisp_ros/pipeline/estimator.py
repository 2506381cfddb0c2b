"""The road from a camera frame to certified object poses and shapes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField, ShapeField
from crisp_ros.correction.table_cache import TableCache, user_cache_folder
from crisp_ros.correction.tabulated_field import TabulatedField
from crisp_ros.correction.visibility import Images, images_of
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.upload import upload
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.cpu_threads import single_threaded
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.precision import Precision, fastest_precision, in_fast_layout
from crisp_ros.observation.device_crops import CropRecipe, device_crops
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.mask_refinement import refine_labels
from crisp_ros.observation.observe import Observations, Rejected, observe
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.adopted_heads import AdoptedHeads
from crisp_ros.pipeline.depth_scales import DepthScales
from crisp_ros.pipeline.estimates import FrameEstimate, ObjectEstimate
from crisp_ros.pipeline.object_estimates import object_estimates
from crisp_ros.pipeline.observed_hull import with_observed_hulls
from crisp_ros.pipeline.prior_correction import PriorShapes
from crisp_ros.pipeline.prior_fallback import PriorFallback, SolvedFrame
from crisp_ros.pipeline.prior_replay import PriorContext, PriorReplay
from crisp_ros.pipeline.prior_searches import BackgroundSearches, SearchStatus
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.shape_meshes import ShapeMeshes
from crisp_ros.pipeline.solution import Solution
from crisp_ros.pipeline.solver import Solver
from crisp_ros.pipeline.stage_clock import StageClock
from crisp_ros.pipeline.trace import Trace
from crisp_ros.pipeline.versions import model_version

Progress = Callable[[str, int, int], None]

_MEASURED_CROPS = 4  # in the measurement of precisions

_log = logging.getLogger(__name__)


class Estimator:
    """Estimates pose and shape of every labelled object of a frame, all objects at once.

    Attributes:
        model: that was taken into use.
        model_version: of the weights in use, which `adopt` changes.
        prior_model: for what the model's library does not explain; None for none.
        device: where everything but the observation runs.
    """

    def __init__(
        self,
        model: Model,
        settings: EstimatorSettings | None = None,
        device: torch.device | str = "cpu",
        prior_model: Model | None = None,
    ) -> None:
        """Create an estimator with a model.

        Args:
            model: its network and library are moved to `device`, and on a CPU the network's weights
                are stored as convolutions are fast, which changes results by rounding errors.
            settings: see `EstimatorSettings`.
            device: where everything but the observation runs.
            prior_model: with a prior over shapes, for what the model's library does not explain;
                not used where it has none.

        Raises:
            ValueError: the device has no such precision, or a prior is missing.
        """
        self.device = torch.device(device)
        self.prior_model = prior_model if model.library is not None else None
        self._network = in_fast_layout(model.network.to(self.device).eval())
        self._library = model.library.to(self.device) if model.library is not None else None
        self._prior = model.prior.to(self.device) if model.prior is not None else None
        settings = self._possible(settings or EstimatorSettings())
        decoder, library = self._network.decoder, self._library
        self.field = _shape_field(decoder, library, settings.shape_tables)
        self.prepared_library = None if library is None else PreparedLibrary(self.field, library)
        self._depth_scales = (
            None if self.prepared_library is None else DepthScales(self.prepared_library)
        )
        library = self.prepared_library
        self._solver = Solver(
            self._network, self.field, library, settings, self.device, self._prior
        )
        self._fallback = None
        if self.prior_model is not None:
            self._fallback = PriorFallback(self.prior_model, settings, self.device)
        self._meshes = ShapeMeshes(
            decoder,
            settings.isosurface,
            settings.cached_meshes,
            self.device,
            self._fallback and self._fallback.decoder,
        )
        self.model = model
        self.model_version = model_version(model)
        self._adopted = AdoptedHeads()
        self._searches: BackgroundSearches | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as what it was made of, for another process to estimate with."""
        return type(self), (self.model, self.settings, self.device, self.prior_model)

    @property
    def settings(self) -> EstimatorSettings:
        """May be replaced between frames, except for the meshes' settings and `shape_tables`."""
        return self._solver.settings

    @settings.setter
    def settings(self, settings: EstimatorSettings) -> None:
        self._solver.settings = self._possible(settings)
        if self._fallback is not None:
            self._fallback.settings = settings

    @property
    def decoder(self) -> ShapeDecoder:
        """The model's shape decoder, on the estimator's device."""
        return self._network.decoder

    @property
    def library(self) -> ShapeLibrary | None:
        """The model's known shapes, on the estimator's device; None where it has none."""
        return self._library

    @property
    def prior_version(self) -> str:
        """The version of the second model; "" without one."""
        return "" if self.prior_model is None else model_version(self.prior_model)

    @property
    def prior_field(self) -> ShapeField | None:
        """f_d of the estimates with `of_prior_model`; None without a second model."""
        return self._fallback and self._fallback.field

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Pose and shape of every labelled object.

        An object that cannot be estimated is rejected with the reason, and harms no other.
        """
        return self.trace(frame).estimate

    @single_threaded()
    @torch.no_grad()
    def trace(
        self,
        frame: Frame,
        stopped: Callable[[], bool] = lambda: False,
        T_fixed_camera: NDArray[np.float64] | None = None,
        expected: Sequence[ExpectedObject] = (),
    ) -> Trace:
        """`estimate` with all intermediate results, for debugging and for self-training.

        Args:
            frame: the frame.
            stopped: asked before each batch of objects. Once it holds, nobody wants the answer any
                more, and the other objects are left out of it.
            T_fixed_camera: (4, 4) pose of the camera in a frame in which objects rest. With it,
                objects whose shapes come from the prior are remembered from frame to frame, and
                searched once; see `PriorMemory`.
            expected: objects of the frame before; what is known of them is not searched again.
        """
        self.model_version = self._adopted.taken_into(self._network, self.model_version)
        clock = StageClock(self.device)
        with clock.stage("observe"):
            network, masks = self._network, self.settings.masks
            refined = frame.labels if masks is None else refine_labels(frame, masks)
            observations = observe(
                frame.with_labels(refined),
                self.settings.observation,
                network.crop_size,
                network.sees_geometry,
                network.crop_rule,
                masks_alone=self._makes_crops,
            )
            # Where the refined masks have nothing, the given ones may still be right.
            images = images_of(
                frame.with_labels(np.where(refined > 0, refined, frame.labels)), self.device
            )
        if self._makes_crops:
            with clock.stage("network"):
                observations = self._with_crops(frame, observations, images)
        rejected = list(observations.rejected)
        solutions: list[Solution] = []
        T = T_fixed_camera
        T = None if T is None else torch.from_numpy(np.asarray(T, np.float64)).to(self.device)
        # The library is tried again on what had no certificate from it.
        context = images, clock, T, [e.of_library() for e in expected]
        for part in observations.parts(self.settings.network_batch):
            if stopped():
                break
            self._solve(part, context, solutions, rejected)
        with clock.stage("answer"):
            quantile = self.settings.certificate.quantile
            objects = [e for s in solutions for e in object_estimates(s, quantile)]
            if self._depth_scales is not None:
                objects = self._depth_scales.added_to(objects, frame.with_labels(refined))
        if self._fallback is not None:
            shown = frame.with_labels(refined)
            solved = SolvedFrame(shown, solutions, images, T, expected)
            objects = self._fallback.applied_to(objects, solved, clock)
        with clock.stage("answer"):
            if (hull := self.settings.observed_hull) is not None:
                objects = with_observed_hulls(objects, solutions, images, hull, expected)
        estimate = FrameEstimate(
            objects=tuple(sorted(objects, key=lambda e: e.label)),
            rejected=tuple(sorted(rejected)),
            stage_ms=clock.milliseconds,
            model_version=self.model_version,
        )
        contexts = [shapes.memory.take_context() for shapes in self._prior_shapes]
        known = None if T is None else PriorContext.joined(contexts)
        return Trace(estimate, tuple(solutions), images, tuple(expected), known)

    @property
    def remembers(self) -> bool:
        """Whether `trace` remembers objects from frame to frame where it knows the camera."""
        return self._solver.takes_prior or bool(self._fallback and self._fallback.is_used)

    def forget(self) -> None:
        """Forget the objects of earlier frames; what is searched for them is withdrawn."""
        for shapes in self._prior_shapes:
            shapes.memory.clear()

    def search_in_background(self) -> None:
        """Search under a prior in a thread of its own from now on, see `PriorMemory`.

        The answers of `trace` then depend on when a search has ended, but no frame waits for one.
        """
        self._searches = BackgroundSearches()
        for shapes in self._prior_shapes:
            shapes.memory.background = self._searches

    def stop_searches(self) -> None:
        """Withdraw all searches in the background and end their thread; not while `trace` runs."""
        for shapes in self._prior_shapes:
            shapes.memory.withdraw_searches()
        if self._searches is not None:
            self._searches.stop()

    @property
    def search_status(self) -> SearchStatus | None:
        """Searches in the background; None where a frame makes its own."""
        return None if self._searches is None else self._searches.status

    def replay(self, context: PriorContext) -> None:
        """Know of the next frame's objects under a prior what `Trace.prior_context` says."""
        for shapes in self._prior_shapes:
            shapes.memory = PriorReplay(context)

    @property
    def _prior_shapes(self) -> list[PriorShapes]:
        shapes = (self._solver.prior_shapes, self._fallback and self._fallback.shapes)
        return [part for part in shapes if part is not None]

    def adopt(self, heads: Mapping[str, Tensor], version: str) -> None:
        """Use other heads from the next frame on.

        A frame is estimated with one set of weights from beginning to end. May be called from
        another thread than `estimate`.

        Args:
            heads: the network's parameters whose names begin with `HEADS`; not changed later.
            version: becomes `model_version` with them.
        """
        self._adopted.offer(heads, version, self.device)

    def _possible(self, settings: EstimatorSettings) -> EstimatorSettings:
        """The settings that the model allows: without a library the network's shapes stay.

        Raises:
            ValueError: the device has no such precision, or the model has no prior.
        """
        if settings.shape_mode == "prior" and self._prior is None:
            raise ValueError("shape_mode prior: the model has no prior over shapes; choose another")
        if settings.precision == "float16" and self.device.type == "cpu":
            raise ValueError("precision float16 needs a GPU; use auto, float32 or bfloat16")
        if self._library is not None or settings.corrector is None:
            return settings
        kept = dataclasses.replace(settings.corrector, shape="none")
        return dataclasses.replace(settings, corrector=kept)

    def warm_up(self, on_progress: Progress = lambda what, done, total: None) -> None:
        """Run the network and the decoder once, and prepare the library's shapes.

        Otherwise the first frame would be the slow one. A precision "auto" becomes the fastest one.

        Args:
            on_progress: called with what is done, the number done and that of all.
        """
        shape = (1, self._network.input_channels, *[self._network.crop_size] * 2)
        crops = torch.full(shape, 0.5, device=self.device)
        with torch.no_grad():
            if self.settings.precision == "auto":
                self._measure_precision(crops.repeat(_MEASURED_CROPS, 1, 1, 1))
            output = self._solver.infer(crops)
            if self._network.has_normalised_shapes:
                output = self._network.in_metres(output, torch.ones(1, device=self.device))
            points = torch.zeros(1, self.settings.observation.points, 3, device=self.device)
            self._network.decoder.sdf_and_gradient(points, output.code)
            if isinstance(self.field, TabulatedField):
                self.field.prepare(partial(on_progress, "tables of shapes"))
            self._solver.prepare(partial(on_progress, "symmetries of shapes"))

    def _measure_precision(self, crops: Tensor) -> None:
        """Use the fastest precision from now on."""

        def infer(precision: Precision) -> bool:
            self.settings = dataclasses.replace(self.settings, precision=precision)
            output = self._solver.infer(crops)
            return all(bool(part.isfinite().all()) for part in output)  # waits for a GPU

        precision = fastest_precision(infer, self.device)
        self.settings = dataclasses.replace(self.settings, precision=precision)
        _log.info("the network computes in %s", precision)

    def mesh(self, estimate: ObjectEstimate) -> TriangleMesh:
        """The surface of an estimate, object frame; see `meshes`."""
        return self.meshes([estimate])[0]

    def meshes(
        self, estimates: Sequence[ObjectEstimate], grown_m: float = 0.0
    ) -> list[TriangleMesh]:
        """The surfaces of estimates, object frame, metres, watertight; empty where there is none.

        Made on demand, those that are new at once, and kept by shape code. May be called from
        another thread than `estimate`.

        Args:
            estimates: of objects.
            grown_m: the surface is where the signed distance has this value, not zero: outside the
                shape by so much.
        """
        return self._meshes.of(estimates, grown_m)

    @property
    def _makes_crops(self) -> bool:
        """Whether crops are made on the device, as a GPU makes them while the host goes on."""
        return has_fixed_shapes(torch.empty(0, device=self.device))

    def _with_crops(self, frame: Frame, observations: Observations, images: Images) -> Observations:
        """The observations on the device, with crops of their masks and of the frame."""
        network, settings = self._network, self.settings.observation
        limits = (settings.min_depth_m, settings.max_depth_m) if network.sees_geometry else None
        recipe = CropRecipe(frame.camera, network.crop_size, network.crop_rule, limits)
        # The image of a message cannot be written to, which PyTorch warns of.
        rgb = upload(torch.from_numpy(np.require(frame.rgb, requirements="CW")), self.device)
        observations = observations.to(self.device)
        masks, boxes = observations.crops[:, 0], observations.boxes
        return observations._replace(crops=device_crops(recipe, rgb, images.depth, masks, boxes))

    def _solve(
        self,
        observations: Observations,
        context: tuple[Images, StageClock, Tensor | None, Sequence[ExpectedObject]],
        solutions: list[Solution],
        rejected: list[Rejected],
    ) -> None:
        """Append the solution of a batch; where that fails, of its objects one by one."""
        try:
            solution, refused = self._solver.solution(observations, *context)
        except Exception as error:  # one object's failure, whatever it is, must not be the others'
            labels = observations.labels.tolist()
            if len(labels) == 1:
                _log.exception("object %d could not be estimated", labels[0])
                reason = f"solver failed: {type(error).__name__}: {error}"
                rejected.append(Rejected(labels[0], reason))
                return
            for part in observations.parts(1):
                self._solve(part, context, solutions, rejected)
            return
        rejected.extend(refused)
        if solution is not None:
            solutions.append(solution)


def _shape_field(decoder: ShapeDecoder, library: ShapeLibrary | None, tables: bool) -> ShapeField:
    if library is None or not tables:
        return DecoderField(decoder)
    folder = user_cache_folder()
    return TabulatedField(decoder, library, None if folder is None else TableCache(folder))
