import dataclasses
import math

import numpy as np
import pytest
import torch
from analytic import box, cup
from analytic_scene import CAMERA, TruthfulNetwork, rendered, truthful_model
from pipeline.three_objects import BOX, MUG, POSES, SETTINGS, SHAPES, estimator
from scipy.spatial.transform import Rotation

from crisp_ros.correction import prepared_library
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.library_tests import LibraryTestSettings
from crisp_ros.correction.symmetry_motions import SymmetryMotions
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import SurfaceColors
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import observe
from crisp_ros.pipeline import STAGES, Estimator, object_correction
from crisp_ros.pipeline import estimator as estimator_module

STRICT = dataclasses.replace(SETTINGS, certificate=CertificateSettings(threshold_m=0.003))
AS_IT_IS = dataclasses.replace(SETTINGS, corrector=None)


def errors(T, T_true):
    angle = Rotation.from_matrix(T[:3, :3].T @ T_true[:3, :3]).magnitude()
    return np.degrees(angle), np.linalg.norm(T[:3, 3] - T_true[:3, 3])


def test_every_object_is_found_posed_and_certified(scene):
    result = estimator().estimate(scene.frame)
    counts = observe(scene.frame, SETTINGS.observation, 96).valid.sum(-1).tolist()
    assert [e.label for e in result.objects] == [4, 7, 11] and result.rejected == ()
    for index, e in enumerate(result.objects):
        angle, distance = errors(e.T_camera_object, scene.poses[e.label])
        assert angle < 1.0 and distance < 1e-3, e
        assert e.certified and e.reason == "" and e.score > 0.5
        assert e.residual_m < 2e-3 and e.threshold_m == pytest.approx(0.01) and e.quantile == 0.98
        assert e.inlier_share > 0.9 and e.n_points == counts[index]
        assert e.code.argmax() == e.shape_index == index and e.code.dtype == np.float32
        np.testing.assert_allclose(e.lower, SHAPES[index].lower, atol=1e-6)
        np.testing.assert_allclose(e.upper, SHAPES[index].upper, atol=1e-6)


def test_covariances_fit_the_errors(scene):
    for e in estimator().estimate(scene.frame).objects:
        deviation = np.sqrt(e.covariance.diagonal())
        np.testing.assert_array_equal(e.covariance, e.covariance.T)
        assert (np.linalg.eigvalsh(e.covariance) > 0).all()
        shift = e.T_camera_object[:3, 3] - scene.poses[e.label][:3, 3]
        assert (np.abs(shift) < 4 * deviation[:3]).all() and deviation[:3].max() < 0.01
        assert np.degrees(deviation[3:]).max() < 20


def test_covariances_are_left_out_where_not_wanted(scene):
    tested = estimator(settings=dataclasses.replace(SETTINGS, covariance=None))
    assert all(e.covariance is None for e in tested.estimate(scene.frame).objects)


def test_a_stopped_frame_ends_with_the_current_batch(scene):
    asked = []
    one_by_one = estimator(settings=dataclasses.replace(AS_IT_IS, network_batch=1))
    trace = one_by_one.trace(scene.frame, lambda: asked.append(True) or len(asked) > 2)
    assert [e.label for e in trace.estimate.objects] == [4, 7] and len(asked) == 3
    assert trace.estimate.rejected == ()


@pytest.mark.parametrize("scale", [1.0, 1.25, 0.5])
def test_a_wrong_scale_of_depth_shows_in_all_sizes(scene, scale):
    depth = np.float32(scale) * scene.frame.depth
    frame = dataclasses.replace(scene.frame, depth=depth)
    ratios = [e.size_ratio for e in estimator(settings=AS_IT_IS).estimate(frame).objects]
    np.testing.assert_allclose(ratios, scale, rtol=0.03)


def test_the_pose_is_a_rotation_to_machine_precision(scene):
    for e in estimator().estimate(scene.frame).objects:
        assert e.T_camera_object.dtype == np.float64
        R = e.T_camera_object[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(e.T_camera_object[3], [0, 0, 0, 1])


def test_without_corrector_the_coordinates_give_the_pose(scene):
    """Half a pixel off in crop, map or back-projection would show as several millimetres."""
    for e in estimator(settings=AS_IT_IS).estimate(scene.frame).objects:
        angle, distance = errors(e.T_camera_object, scene.poses[e.label])
        assert angle < 1.0 and distance < 1e-3


def test_the_corrector_repairs_a_wrong_shape(scene):
    wrong = estimator(answers=(1, 2, 0), settings=AS_IT_IS).estimate(scene.frame)
    assert not any(e.certified for e in wrong.objects)
    assert all("mm >" in e.reason for e in wrong.objects)
    any_shape = dataclasses.replace(SETTINGS, corrector=CorrectorSettings(shape_ratio=math.inf))
    repaired = estimator(answers=(1, 2, 0), settings=any_shape).estimate(scene.frame)
    assert [e.code.argmax() for e in repaired.objects] == [0, 1, 2]
    assert [e.shape_index for e in repaired.objects] == [0, 1, 2]
    assert all(e.certified for e in repaired.objects)


def test_a_mug_that_the_network_sees_rotated_is_corrected():
    """The network's coordinates are those of the mug with its handle 100 degrees further on."""
    upright = np.eye(4)
    upright[:3, :3] = Rotation.from_euler("xz", (130, -60), degrees=True).as_matrix()
    upright[:3, 3] = 0.02, 0.0, 0.6
    scene = rendered([MUG], [upright], [3])
    further = torch.from_numpy(Rotation.from_euler("z", 100, degrees=True).as_matrix()).float()

    def traced(**changes):
        alone = dataclasses.replace(SETTINGS, named_shapes=None, **changes)
        mistaken = estimator([1], alone)
        mistaken._network.spoil = lambda output: output._replace(
            pnc=torch.einsum("ij,bjhw->bihw", further, output.pnc)
        )
        trace = mistaken.trace(scene.frame)
        return trace.estimate.objects[0], trace.solutions[0]

    found, solution = traced()
    assert errors(found.T_camera_object, upright)[0] < 2.0
    assert found.certified and not found.unknown
    # What follows, such as self-training, takes the network's answer as rotated back too.
    apart = (solution.correspondences.pnc - solution.correction.pnc).norm(dim=-1)
    apart = apart[solution.observations.valid]
    assert apart.median() < 0.005
    first = np.linalg.inv(solution.registration.T_object_camera[0].numpy())
    assert errors(first, upright)[0] < 8.0

    for changes in ({"symmetry_search": None}, {"corrector": None}):
        left, _ = traced(**changes)
        assert errors(left.T_camera_object, upright)[0] > 80.0


def test_stage_times_and_version(scene):
    result = estimator().estimate(scene.frame)
    assert tuple(result.stage_ms) == STAGES
    assert all(ms > 0 for ms in result.stage_ms.values())
    assert result.model_version == "test-0123456789ab"
    unnamed = Model(TruthfulNetwork(SHAPES, (0,)), None, {})
    assert Estimator(unnamed, SETTINGS).model_version == "unsaved"


def test_results_depend_on_the_object_and_frame_alone(scene):
    alone = rendered(SHAPES[:1], POSES[:1], (4,))
    used = estimator()
    together = used.estimate(scene.frame).objects[0]
    single = estimator().estimate(alone.frame).objects[0]
    np.testing.assert_allclose(together.T_camera_object, single.T_camera_object, atol=1e-3)
    again = used.estimate(scene.frame)
    for first, second in zip(estimator().estimate(scene.frame).objects, again.objects, strict=True):
        np.testing.assert_array_equal(first.T_camera_object, second.T_camera_object)


@pytest.mark.parametrize("where", ["map", "code", "infinite map"])
def test_a_broken_network_output_rejects_its_object_alone(scene, where):
    tested = estimator()

    def spoil(output):
        if where == "map":
            output.pnc[1, 2, 20:60, 20:60] = torch.nan
        elif where == "code":
            output.code[1, 0] = torch.nan
        else:
            output.pnc[1] = torch.inf
        return output

    tested._network.spoil = spoil
    result = tested.estimate(scene.frame)
    assert [e.label for e in result.objects] == [4, 11] and all(e.certified for e in result.objects)
    assert [r.label for r in result.rejected] == [7]
    assert "network" in result.rejected[0].reason and "not finite" in result.rejected[0].reason


def test_a_network_that_breaks_altogether_rejects_everything(scene):
    tested = estimator()
    tested._network.spoil = lambda output: output._replace(code=output.code * torch.nan)
    result = tested.estimate(scene.frame)
    assert result.objects == () and [r.label for r in result.rejected] == [4, 7, 11]


def test_a_solver_that_fails_on_one_object_spares_the_others(scene, monkeypatch, caplog):
    real = object_correction.correct

    def failing(field, correspondences, shapes, *rest):
        if (shapes.codes.argmax(-1) == 1).any():
            raise torch.linalg.LinAlgError("did not converge")
        return real(field, correspondences, shapes, *rest)

    monkeypatch.setattr(object_correction, "correct", failing)
    tested = estimator()
    tested._network.spoil = _named_by_extent
    result = tested.estimate(scene.frame)
    assert [e.label for e in result.objects] == [4, 11]
    assert [r.label for r in result.rejected] == [7]
    assert "LinAlgError: did not converge" in result.rejected[0].reason
    assert "object 7" in caplog.text


def _named_by_extent(output):
    """Name shape 1 for the mug and 0 for the rest, whatever else is in the batch."""
    codes = torch.zeros_like(output.code)
    for i, one in enumerate(output.pnc):
        extent = one.abs().amax((1, 2))
        index = 1 if extent[0] > 0.062 and extent[2] < 0.047 else 0
        codes[i, index] = 1
    return output._replace(code=codes)


def test_what_observation_rejects_is_passed_on(scene):
    labels = scene.frame.labels.copy()
    labels[0, :5] = 2
    frame = Frame(scene.frame.rgb, scene.frame.depth, labels, CAMERA)
    result = estimator().estimate(frame)
    assert [e.label for e in result.objects] == [4, 7, 11]
    assert [r.label for r in result.rejected] == [2] and "mask of 5 px" in result.rejected[0].reason


def test_a_frame_without_objects():
    nothing = rendered((), (), ())
    result = estimator().estimate(nothing.frame)
    assert result.objects == () and result.rejected == () and tuple(result.stage_ms) == STAGES


def test_crops_pass_the_network_in_batches(scene):
    tested = estimator(
        answers=(0,), settings=dataclasses.replace(AS_IT_IS, network_batch=2), shapes=SHAPES
    )
    result = tested.estimate(scene.frame)
    assert tested._network.batches == [2, 1] and len(result.objects) == 3


def test_mixed_shapes_get_a_box_of_their_own():
    small, large = box((0.03, 0.03, 0.03)), box((0.05, 0.05, 0.05))
    middle = rendered((box((0.04, 0.04, 0.04)),), POSES[:1], (1,))
    tested = estimator(settings=AS_IT_IS, shapes=(small, large))
    tested._network.spoil = lambda o: o._replace(code=torch.full_like(o.code, 0.5))
    (e,) = tested.estimate(middle.frame).objects
    assert e.shape_index == -1
    np.testing.assert_allclose(e.upper - e.lower, 0.08, atol=0.006)


def test_coordinates_without_a_pose_are_not_certified(scene):
    tested = estimator(settings=AS_IT_IS)
    noise = torch.Generator().manual_seed(0)
    tested._network.spoil = lambda o: o._replace(
        pnc=0.2 * torch.rand(o.pnc.shape, generator=noise) - 0.1
    )
    result = tested.estimate(scene.frame)
    assert all(not e.certified and e.score < 0.5 and e.reason for e in result.objects)
    assert all(e.inlier_share < 0.4 for e in result.objects)


def test_the_certificates_settings_are_used(scene):
    strict = dataclasses.replace(AS_IT_IS, certificate=CertificateSettings(threshold_m=1e-6))
    result = estimator(settings=strict).estimate(scene.frame)
    assert all(not e.certified and e.threshold_m == pytest.approx(1e-6) for e in result.objects)


def test_shapes_in_free_space_are_refused_by_default():
    """Seen from here the small box's points lie on the long one too, but that protrudes."""
    small, large = box((0.03, 0.03, 0.03)), box((0.03, 0.03, 0.06))
    T = np.eye(4)
    T[:3, 3] = 0, 0, 0.6
    lying = T.copy()
    lying[:3, :3] = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    seen = rendered((small,), (lying,), (1,)).frame
    wall = np.where(seen.labels > 0, seen.depth, np.float32(1.0))
    seen = dataclasses.replace(seen, depth=wall)
    careless = dataclasses.replace(AS_IT_IS, visibility=None)
    for settings, certified in ((careless, [True, True]), (AS_IT_IS, [True, False])):
        verdicts = []
        for answer in (0, 1):
            tested = estimator(answers=(answer,), settings=settings, shapes=(small, large))
            (e,) = tested.estimate(seen).objects
            verdicts.append(e.certified)
        assert verdicts == certified
    assert "space seen to be empty" in e.reason


def test_trace_holds_what_led_to_the_estimate(scene):
    trace = estimator().trace(scene.frame)
    (solution,) = trace.solutions
    assert solution.observations.labels.tolist() == [4, 7, 11]
    assert solution.observations.crops.shape == (3, 3, 96, 96)
    assert solution.maps.shape == (3, 3, 48, 48)
    assert solution.correspondences.pnc.shape == solution.correction.pnc.shape == (3, 400, 3)
    assert solution.hypotheses.labels.tolist() == [4, 7, 11]
    certified = solution.verification.certificate.certified
    assert certified.tolist() == [e.certified for e in trace.estimate.objects]
    on_surface = MUG.sdf(solution.correction.pnc[1])
    assert on_surface.abs().quantile(0.98) < 2e-3


def test_warm_up_runs_the_network_once():
    tested = estimator()
    tested.warm_up()
    assert tested._network.batches == [1]


def test_warm_up_finds_the_symmetries_before_the_first_frame(scene, monkeypatch):
    """Once each, and only where they are used."""
    found = []

    def finding(field, shape, *rest):
        found.append(int(shape.index))
        return SymmetryMotions(torch.eye(4)[None], torch.zeros(1, dtype=torch.long))

    monkeypatch.setattr(prepared_library, "symmetry_motions", finding)
    tested = estimator()
    tested.warm_up()
    assert found == [0, 1, 2]
    tested.estimate(scene.frame)
    assert found == [0, 1, 2]
    unused = dataclasses.replace(SETTINGS, symmetry_search=None, orientation=None)
    kept = dataclasses.replace(SETTINGS, corrector=CorrectorSettings(shape="none"))
    own = dataclasses.replace(SETTINGS, shape_mode="network")
    for settings in (AS_IT_IS, unused, kept, own):
        estimator(settings=settings).warm_up()
    assert found == [0, 1, 2]
    by_print = dataclasses.replace(SETTINGS, symmetry_search=None)
    estimator(settings=by_print).warm_up()
    assert found == [0, 1, 2] * 2


def test_warm_up_prepares_prints_of_shapes_with_symmetries(monkeypatch):
    """A box has symmetries, which its print may break; the bracket has none."""
    found = []

    def finding(field, shape, colors):
        found.append(int(shape.index))

    monkeypatch.setattr(prepared_library, "printed_surface", finding)
    tested = estimator()
    library = tested.prepared_library.library
    painted = SurfaceColors(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.uint8))
    tested.prepared_library.library = dataclasses.replace(library, colors=(painted,) * 3)
    tested.settings = dataclasses.replace(SETTINGS, orientation=None)
    tested.warm_up()
    assert found == []
    tested.settings = SETTINGS
    tested.warm_up()
    ambiguous = [i for i in range(3) if (tested.prepared_library.motions(i).kinds > 0).any().item()]
    assert 0 in ambiguous and 2 not in ambiguous
    assert found == ambiguous


def test_the_network_alone_runs_in_bfloat16(scene):
    tested = estimator(settings=dataclasses.replace(AS_IT_IS, precision="bfloat16"))
    layer = torch.nn.Conv2d(3, 3, 1, bias=False)
    torch.nn.init.dirac_(layer.weight)
    types = []

    def spoil(output):
        maps = layer(output.pnc)
        types.append(maps.dtype)
        return output._replace(pnc=maps)

    tested._network.spoil = spoil
    (solution,) = tested.trace(scene.frame).solutions
    assert types == [torch.bfloat16]
    assert solution.maps.dtype == solution.codes.dtype == torch.float32
    for e in tested.estimate(scene.frame).objects:
        assert errors(e.T_camera_object, scene.poses[e.label])[1] < 2e-3


@pytest.mark.parametrize("fastest", ["float32", "bfloat16"])
def test_auto_precision_is_measured_by_warm_up(monkeypatch, fastest):
    """Before, and with everything that is asked for by name, nothing is measured."""
    measured = []

    def measure(infer, device):
        measured.append([infer("bfloat16"), infer("float32")])
        return fastest

    monkeypatch.setattr(estimator_module, "fastest_precision", measure)
    tested = estimator(settings=dataclasses.replace(AS_IT_IS, precision="auto"))
    assert tested.settings.precision == "auto"
    for _ in range(2):
        tested.warm_up()
        assert tested.settings.precision == fastest
    assert measured == [[True, True]]
    estimator(settings=AS_IT_IS).warm_up()
    assert len(measured) == 1


def test_precisions_that_there_are_not():
    with pytest.raises(ValueError, match="precision is 'int8'"):
        dataclasses.replace(AS_IT_IS, precision="int8")
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        estimator(settings=dataclasses.replace(AS_IT_IS, precision="float16"))


def test_scene_helper_renders_the_truth():
    """The oracle itself: depth points lie on the shape, colours are their object coordinates."""
    scene = rendered((MUG,), POSES[:1], (1,))
    v, u = np.nonzero(scene.frame.labels == 1)
    z = scene.frame.depth[v, u].astype(float)
    points = np.stack(((u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z, z), -1)
    T = np.linalg.inv(POSES[0])
    local = points @ T[:3, :3].T + T[:3, 3]
    assert np.abs(MUG.sdf(torch.tensor(local)).numpy()).max() < 1e-4
    painted = (scene.frame.rgb[v, u] / 255 - 0.5) * 0.255
    assert np.abs(painted - local).max() < 1e-3


def test_an_object_outside_the_library_is_unknown(scene):
    known = (BOX, MUG)
    found = estimator((0, 1, 0), STRICT, known).estimate(scene.frame).objects
    assert [e.unknown for e in found] == [False, False, True]
    assert [e.certified for e in found] == [True, True, False]
    assert found[2].reason.startswith("unknown object: the nearest library shape, ")
    assert found[2].score < 0.5
    silent = dataclasses.replace(STRICT, known_shapes=None)
    refused = estimator((0, 1, 0), silent, known).estimate(scene.frame).objects[2]
    assert not refused.unknown and refused.reason.startswith("q98")
    np.testing.assert_array_equal(refused.T_camera_object, found[2].T_camera_object)


def test_a_known_object_is_never_unknown(scene):
    """Another shape than the named one explains it; or its mask includes what is next to it."""
    misnamed = estimator((1, 2, 0), AS_IT_IS).estimate(scene.frame).objects
    assert not any(e.certified or e.unknown for e in misnamed)
    depth = scene.frame.depth.copy()
    v, u = np.nonzero(scene.frame.labels == 4)
    band = (v >= np.quantile(v, 0.5)) & (v < np.quantile(v, 0.54))
    depth[v[band], u[band]] += 0.008
    frame = dataclasses.replace(scene.frame, depth=depth)
    degraded = estimator(settings=STRICT).estimate(frame).objects[0]
    assert not degraded.certified and not degraded.unknown and degraded.reason.startswith("q98")


def test_a_mug_is_degenerate_while_its_handle_is_hidden():
    shapes = (MUG, cup(0.04, 0.045, 0.008))
    away, aside = np.eye(4), np.eye(4)
    away[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]  # the handle lies along the mug's x axis
    aside[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    away[:3, 3], aside[:3, 3] = (-0.1, 0.0, 0.7), (0.1, 0.0, 0.7)
    frame = rendered((MUG, MUG), (away, aside), (1, 2)).frame
    settings = dataclasses.replace(STRICT, ambiguity=LibraryTestSettings())
    hidden, seen = estimator((0, 0), settings, shapes).estimate(frame).objects
    assert hidden.certified and seen.certified
    assert hidden.degenerate and not seen.degenerate
    assert hidden.smallest_eigenvalue < seen.smallest_eigenvalue
    plain = estimator((0, 0), SETTINGS, shapes).estimate(frame).objects[0]
    assert not plain.degenerate and math.isnan(plain.smallest_eigenvalue)


def test_a_swap_on_a_gpu_waits_for_the_weights(monkeypatch):
    """The heads are written on the trainer's stream and copied on the estimator's."""
    tested = Estimator(truthful_model(SHAPES, (0, 1, 2)))
    calls = []

    class Event:
        def record(self, stream):
            calls.append(("record", stream))

    class Stream(str):
        def wait_event(self, event):
            calls.append(("wait", self, type(event).__name__))

    streams = iter([Stream("trainer"), Stream("estimator")])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: next(streams))
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: calls.append(("keep", stream))
    )
    layer = torch.nn.Linear(2, 1)
    tested._network.pnc_head = layer
    copied = layer.weight.copy_
    monkeypatch.setattr(
        layer.weight, "copy_", lambda value: calls.append("copy") or copied(value), raising=False
    )
    monkeypatch.setattr(tested, "device", torch.device("cuda"))
    tested.adopt({"pnc_head.weight": torch.ones(1, 2)}, "next")
    with torch.no_grad():
        version = tested._adopted.taken_into(tested._network, tested.model_version)
    assert calls == [
        ("record", "trainer"),
        ("wait", "estimator", "Event"),
        ("keep", "estimator"),
        "copy",
    ]
    assert version == "next" and layer.weight.tolist() == [[1.0, 1.0]]
