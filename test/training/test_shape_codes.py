import numpy as np
import torch
import trimesh

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.training.sdf_samples import SdfSamples, sdf_samples
from crisp_ros.training.shape_codes import ShapeCodeSettings, fit_shape_codes, neutral_codes


def test_samples_of_a_sphere_carry_its_closed_form_distance():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
    samples = sdf_samples([sphere], 3000, np.random.default_rng(0))
    truth = samples.points.norm(dim=-1) - 0.05
    assert samples.points.shape == (1, 3000, 3)
    assert (samples.distances - truth).abs().max() < 3e-4
    assert (samples.distances[:, :1000] == 0).all()
    assert (samples.distances[:, 1000:2000].abs().median()) < 0.01
    assert (samples.distances < -0.01).any() and (samples.distances > 0.1).any()


def test_neutral_codes_leave_the_decoder_unmodulated():
    decoder = ShapeDecoder(hidden=8, layers=3)
    codes = neutral_codes(decoder, 2, noise=0.0, seed=0)
    scales, shifts = decoder.film(codes)
    assert (scales == 1).all() and (shifts == 0).all()
    assert not torch.equal(
        neutral_codes(decoder, 2, noise=0.1, seed=0), neutral_codes(decoder, 2, noise=0.1, seed=1)
    )


def fitted(train: str, decoder: ShapeDecoder, samples: SdfSamples) -> torch.Tensor:
    start = neutral_codes(decoder, len(samples.points), noise=0.05, seed=0)
    settings = ShapeCodeSettings(steps=250, learning_rate=5e-3)
    return fit_shape_codes(decoder, start, samples, settings, seed=0, train=train)


def test_fit_separates_two_spheres_and_is_deterministic():
    generator = torch.Generator().manual_seed(0)
    radii = torch.tensor([[0.04], [0.08]])
    directions = torch.nn.functional.normalize(torch.randn(2, 600, 3, generator=generator), dim=-1)
    reach = torch.cat(
        [
            radii.expand(2, 200),
            radii + 0.01 * torch.randn(2, 200, generator=generator),
            0.15 * torch.rand(2, 200, generator=generator),
        ],
        dim=1,
    ).abs()
    samples = SdfSamples(directions * reach[..., None], reach - radii)
    torch.manual_seed(0)
    decoder = ShapeDecoder(hidden=32, layers=3)
    start = {k: v.clone() for k, v in decoder.state_dict().items()}
    codes = fitted("both", decoder, samples)
    error = (decoder.sdf(samples.points, codes) - samples.distances).abs().mean()
    assert error < 0.004
    swapped = (decoder.sdf(samples.points, codes.flip(0)) - samples.distances).abs().mean()
    assert swapped > 0.02

    trained = {k: v.clone() for k, v in decoder.state_dict().items()}
    decoder.load_state_dict(start)
    again = fitted("both", decoder, samples)
    assert torch.equal(codes, again)

    decoder.load_state_dict(trained)
    fitted("codes", decoder, samples)
    assert all(torch.equal(v, trained[k]) for k, v in decoder.state_dict().items())
    assert torch.equal(fitted("decoder", decoder, samples), fitted("decoder", decoder, samples))
    start_codes = neutral_codes(decoder, 2, noise=0.05, seed=0)
    assert torch.equal(fitted("decoder", decoder, samples), start_codes)
    assert not torch.equal(decoder.final_layer.weight, trained["final_layer.weight"])
