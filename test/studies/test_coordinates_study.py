"""Metric and normalised coordinates under self-training, at a tiny scale."""

import dataclasses

import pytest
import roma
import torch
from adaptation_samples import shipped_model, shipped_reference

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.cli.main import main
from crisp_ros.reports.coordinates_figure import draw_coordinates
from crisp_ros.studies.coordinates_study import (
    CoordinatesSettings,
    CoordinatesStudy,
    annotated_crops,
    inliers,
    pseudo_labels,
    similarity,
)

QUICK = CoordinatesSettings(
    head_steps=3,
    head_batch=4,
    learner=LearnerSettings(batch=4, pnc_scale=1e4, code_scale=0.0),
    steps=2,
    measured_every=1,
    iterations=5,
)


def some_crops(rows=range(0, 126, 21)):
    whole = shipped_reference()
    names = ("crops", "grid", "points", "T_object_camera", "shape")
    parts = {name: getattr(whole, name)[list(rows)] for name in names}
    return annotated_crops(dataclasses.replace(whole, **parts), shipped_model())


def moved(scale, count=2, points=80):
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([0.1, -0.2, 0.8]) + 0.05 * torch.randn(count, points, 3, generator=generator)
    R = roma.random_rotmat(count)
    t = torch.randn(count, 3, generator=generator)
    return x, scale * x @ R.transpose(-1, -2) + t[:, None], R, t


def test_a_similarity_is_fitted_and_inverted():
    x, z, R, t = moved(0.3)
    found = similarity(x, z, torch.ones(2, 80), scaled=True)
    torch.testing.assert_close(found.scale, torch.full((2,), 0.3), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.rotation, R, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.translation, t, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.apply(x), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.apply_inverse(z), x, atol=1e-3, rtol=1e-3)
    assert torch.equal(similarity(x, z, torch.ones(2, 80), scaled=False).scale, torch.ones(2))


def test_outliers_have_no_weight_whatever_the_scale():
    x, z, _, _ = moved(0.4)
    z[:, :16] += torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(1))
    weights = inliers(x, z, True, 0)
    assert weights[:, 16:].mean() > 0.95 and weights[:, :16].mean() < 0.1


def test_only_with_a_free_scale_noise_shrinks_the_labels():
    """The cause in small: of noise that the pose cannot explain the scale takes the blame."""
    crops, model = some_crops(range(0, 42, 6)), shipped_model()
    points = torch.stack([sample.points for sample in crops.samples])
    z = torch.stack([sample.z for sample in crops.samples])
    noisy = z + 0.02 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    settings = dataclasses.replace(QUICK, iterations=0)
    codes = model.library.codes[crops.shape]
    free, fixed = (
        pseudo_labels(model.network.decoder, codes, points, noisy, scaled, settings)
        for scaled in (True, False)
    )

    def extent(coordinates):
        return (coordinates - coordinates.mean(1, keepdim=True)).square().sum((1, 2)).sqrt()

    torch.testing.assert_close(extent(fixed.z), extent(points), atol=1e-4, rtol=1e-3)
    assert extent(free.z).mean() < 0.98 * extent(noisy).mean()


def test_the_corrector_improves_and_keeps_the_best():
    crops, model = some_crops(range(0, 42, 6)), shipped_model()
    points = torch.stack([sample.points for sample in crops.samples])
    z = torch.stack([sample.z for sample in crops.samples]) + torch.tensor([0.0, 0.0, 0.015])
    codes, decoder = model.library.codes[crops.shape], model.network.decoder
    distances = [
        decoder.sdf(
            pseudo_labels(
                decoder, codes, points, z, False, dataclasses.replace(QUICK, iterations=count)
            ).z,
            codes,
        )
        .square()
        .mean(-1)
        for count in (0, 20)
    ]
    assert (distances[1] <= distances[0] + 1e-9).all()
    assert distances[1].mean() < 0.5 * distances[0].mean()


@pytest.mark.parametrize("kind", ["metric", "normalised"])
def test_both_kinds_train_learn_and_are_measured(kind):
    crops, model = some_crops(), shipped_model()
    before = {k: v.clone() for k, v in model.network.named_parameters()}
    study, steps = CoordinatesStudy(model, kind, QUICK), []
    study.train_head(crops, lambda done, total: steps.append((done, total)))
    history = study.self_train(crops, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert [row["step"] for row in history] == [0, 1, 2]
    for row in history:
        assert 0.5 < row["size"] < 2.0 and 0.0 <= row["certified"] <= 1.0
        assert (row["scale"] == 1.0) == (kind == "metric")
    assert study.coordinates(crops, 2).shape == (128, 3)
    for name, value in model.network.named_parameters():
        assert torch.equal(value, before[name])


def test_the_figure_has_both_kinds(tmp_path):
    row = {"norm_m": 0.08, "auc_add_s_2cm": 0.5, "certified": 0.6}
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).tolist()
    study = {
        "history": [{"step": 0, **row}, {"step": 5, **row}],
        "picture": {"surface": points, "before": points, "after": points},
    }
    draw_coordinates({"metric": study, "normalised": study}, tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_line(tmp_path, capsys):
    words = ["--models", str(tmp_path / "nowhere"), "--work", str(tmp_path)]
    assert main(["ablate", "coordinates", *words]) == 1
    printed = capsys.readouterr().err
    assert "nowhere" in printed and printed.count("\n") == 1
