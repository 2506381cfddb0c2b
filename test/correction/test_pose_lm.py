"""The second-order solver against SciPy, the gradient solver and the truth."""

import math

import numpy as np
import pytest
import torch
from observed import Noise, add_s, observe
from scipy.optimize import least_squares

from crisp_ros.correction.pose_gradient import GradientSettings, descend
from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import ANY_FALL, geman_mcclure
from crisp_ros.geometry.registration import register
from crisp_ros.geometry.se3 import exp, invert, transform
from crisp_ros.network.decoder import ShapeDecoder

NAMES = ("box", "mug", "bracket", "bar", "cup", "capsule")
ALWAYS = SecondOrderSettings(move=ANY_FALL)


def refined(known, names, seen, settings=None, start=None):
    weights = register(*seen[:3]).inliers.float()
    if start is None:
        start = register(*seen[:3]).T_object_camera
    return refine(
        known.decoder, *seen[:2], weights, seen.valid, known.codes(*names), start, settings
    )


def test_no_worse_than_scipy_from_the_same_start(known) -> None:
    """SciPy minimises the same robust objective over the six parameters, to the end."""
    names = ("box", "mug", "bracket")
    seen = observe(known.named(*names), Noise(0.001, 0.1, 0.003, turn=0.1), seed=1, count=200)
    settings = SecondOrderSettings(evaluations=40, prior_weight=1e-4, move=ANY_FALL)
    step = refined(known, names, seen, settings)
    start = register(*seen[:3]).T_object_camera.double()
    scale = torch.tensor(settings.robust_scale_m).double()
    for b, code in enumerate(known.codes(*names)):
        middle = transform(start[b], seen.points[b].double()).mean(0)

        def residuals(xi, b=b, code=code, middle=middle):
            z = transform(start[b], seen.points[b].double()) - middle
            z = transform(exp(torch.tensor(xi)), z) + middle
            sdf = known.decoder.sdf(z.float(), code).double()
            return geman_mcclure(sdf.square(), scale).cost.sqrt().numpy()

        solved = least_squares(residuals, np.zeros(6), diff_step=1e-4, x_scale=0.01)
        oracle = np.square(residuals(solved.x)).mean()
        assert step.objective[b].item() < 1.05 * oracle + 1e-9


def test_no_worse_than_200_gradient_steps(known) -> None:
    seen = observe(
        known.named(*NAMES), Noise(0.001, 0.05, 0.003, 0.1, along_ray=0.02), seed=2, count=200
    )
    step = refined(known, NAMES, seen, ALWAYS)
    slow = descend(
        known.decoder,
        seen.points,
        seen.pnc,
        register(*seen[:3]).inliers.float(),
        seen.valid,
        known.codes(*NAMES),
        GradientSettings(iterations=200, patience=40, move=ANY_FALL),
    )
    # The prior may cost a little of the objective; a tenth of a millimetre is its measure.
    assert (step.objective.sqrt() < slow.objective.sqrt() + 1e-4).all()


def test_converges_from_four_centimetres_and_thirty_degrees(known) -> None:
    shapes = known.named("box", "bracket", "bar", "mug")
    errors = []
    for seed in range(3):
        noise = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.035, turn=math.radians(25))
        seen = observe(shapes, noise, seed=10 + seed)
        step = refined(known, ("box", "bracket", "bar", "mug"), seen)
        errors.extend(add_s(step.T_object_camera, seen.T_object_camera, shapes))
    assert np.median(errors) < 0.003
    assert np.mean(np.array(errors) < 0.01) >= 0.8


def test_free_directions_stay_where_the_network_put_them(known) -> None:
    """A can may turn about its axis and a face may slide: the correspondences keep both."""
    shapes = known.named("cylinder", "sphere")
    seen = observe(shapes, Noise(0.001, 0.0, 0.001, along_ray=0.02), seed=5)
    step = refined(known, ("cylinder", "sphere"), seen, ALWAYS)
    motion = step.T_object_camera.double() @ invert(seen.T_object_camera)
    assert torch.linalg.norm(motion[0, :3, 3]) < 0.004
    x_axis = motion[0, :3, 0]
    assert abs(math.atan2(x_axis[1], x_axis[0])) < math.radians(3)
    turned = math.acos(min(1.0, (motion[1, :3, :3].trace().item() - 1) / 2))
    assert turned < math.radians(15)


def test_without_the_prior_the_plane_would_slide() -> None:
    """Exactly one plane is seen: the prior alone decides three motions, the plane the others."""
    decoder = _Slab()
    g = torch.Generator().manual_seed(0)
    z = torch.cat((0.1 * torch.rand(1, 300, 2, generator=g), torch.zeros(1, 300, 1)), -1)
    shift = torch.tensor([0.01, -0.02, 0.03])
    points = z - shift
    step = refine(
        decoder,
        points,
        points,
        torch.ones(1, 300),
        torch.ones(1, 300).bool(),
        torch.zeros(1, 1),
        torch.eye(4)[None],
        ALWAYS,
    )
    # Along the plane nothing moves; onto the plane all the way.
    expected = torch.tensor([0.0, 0.0, 0.03])
    torch.testing.assert_close(step.T_object_camera[0, :3, 3], expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(step.T_object_camera[0, :3, :3], torch.eye(3), atol=1e-3, rtol=0)


class _Slab(ShapeDecoder):
    """The half space z < 0, whatever the code."""

    def __init__(self) -> None:
        super().__init__(hidden=1, layers=1)

    def sdf(self, points, codes):
        return points[..., 2]

    def sdf_and_gradient(self, points, codes):
        gradient = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
        return (
            super()
            .sdf_and_gradient(points, torch.zeros(1, 2))
            ._replace(sdf=points[..., 2], gradient=gradient)
        )


def test_a_good_pose_is_left_alone(known) -> None:
    """0, 2 and 10 mm coordinate noise, 0 to 40 % outliers: the median ADD-S does not rise."""
    shapes = list(known.shapes)
    for pnc in (0.0, 0.002, 0.01):
        for outliers in (0.0, 0.2, 0.4):
            seen = observe(shapes, Noise(0.002, 0.05, pnc, outliers), seed=20)
            before = register(*seen[:3]).T_object_camera
            step = refined(known, known.library.names, seen)
            after = np.median(add_s(step.T_object_camera, seen.T_object_camera, shapes))
            assert after <= np.median(add_s(before, seen.T_object_camera, shapes)) + 1e-6


def test_objects_do_not_influence_each_other(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.001, 0.1, 0.003, 0.1, 0.9), seed=6, count=150)
    together = refined(known, NAMES, seen)
    again = refined(known, NAMES, seen)
    assert torch.equal(together.T_object_camera, again.T_object_camera)
    weights = register(*seen[:3])
    for b, code in enumerate(known.codes(*NAMES)):
        one = slice(b, b + 1)
        alone = refine(
            known.decoder,
            seen.points[one],
            seen.pnc[one],
            weights.inliers[one].float(),
            seen.valid[one],
            code[None],
            weights.T_object_camera[one],
        )
        torch.testing.assert_close(
            alone.T_object_camera[0], together.T_object_camera[b], atol=2e-4, rtol=0
        )


def test_evaluates_the_decoder_at_most_a_dozen_times(known) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    seen = observe(known.named("mug"), Noise(0.002, 0.1, 0.01, along_ray=0.03), seed=7)
    decoder = known.decoder
    originals = decoder.sdf, decoder.sdf_and_gradient
    points = seen.points.shape[1]
    evaluated = 0
    try:

        def sdf(x, c):
            nonlocal evaluated
            evaluated += x.shape[:-1].numel()
            return originals[0](x, c)

        def both(x, c):
            nonlocal evaluated
            evaluated += x.shape[:-1].numel()
            count()
            return originals[1](x, c)

        decoder.sdf, decoder.sdf_and_gradient = sdf, both
        refined(known, ("mug",), seen)
    finally:
        del decoder.sdf, decoder.sdf_and_gradient
    assert calls <= 10
    assert evaluated <= 12 * points


def test_padding_and_what_is_not_finite_change_nothing(known) -> None:
    seen = observe(known.named("mug"), Noise(0.001, 0.0, 0.002, along_ray=0.01), seed=8, count=150)
    start = register(*seen[:3]).T_object_camera
    ones, codes = torch.ones(1, 150), known.codes("mug")
    plain = refine(known.decoder, *seen[:2], ones, seen.valid, codes, start)
    junk, far = torch.full((1, 30, 3), torch.nan), torch.full((1, 20, 3), 50.0)
    padded = refine(
        known.decoder,
        torch.cat((seen.points, junk, far), 1),
        torch.cat((seen.pnc, junk, far), 1),
        torch.ones(1, 200),
        torch.cat((seen.valid, torch.ones(1, 30).bool(), torch.zeros(1, 20).bool()), 1),
        codes,
        start,
    )
    torch.testing.assert_close(plain.T_object_camera, padded.T_object_camera, atol=1e-4, rtol=0)


@pytest.mark.parametrize("valid_points", [0, 1, 2])
def test_too_few_points_are_survived(known, valid_points: int) -> None:
    points = 0.02 * torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(1))
    valid = torch.zeros(1, 30).bool()
    valid[0, :valid_points] = True
    step = refine(
        known.decoder, points, points, valid.float(), valid, known.codes("box"), torch.eye(4)[None]
    )
    assert torch.isfinite(step.T_object_camera).all()
