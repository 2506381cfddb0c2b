"""The turning mug: what explains it while its handle is hidden, and once it shows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from crisp_ros.studies.degeneracy_study import (
    CUP,
    MUG,
    DegeneracyStudy,
    DegeneracyStudySettings,
    degeneracy_study,
)
from crisp_ros.studies.study_error import StudyError


@pytest.fixture(scope="module")
def study(known) -> DegeneracyStudy:
    """The analytic mug, named as in YCB; its twin is given the code of the analytic cup."""
    library = known.library
    rows = [library.names.index(name) for name in ("box", "mug", "bracket")]
    few = replace(
        library,
        names=("box", MUG, "bracket"),
        codes=library.codes[rows],
        lower=library.lower[rows],
        upper=library.upper[rows],
        symmetries=(),
        colors=(),
    )
    settings = DegeneracyStudySettings(views=3, points=256, noise_m=0.0005)
    cup = SimpleNamespace(code=known.codes("cup")[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crisp_ros.studies.degeneracy_study.fit_mesh_code", lambda *a, **k: cup)
        return degeneracy_study(known.decoder, few, settings)


def test_the_mug_without_its_handle_is_a_cup(study: DegeneracyStudy) -> None:
    assert study.twin_error.chamfer_m < 0.002
    assert 0.0005 < study.twin_chamfer_m < 0.01


def test_the_handle_decides(study: DegeneracyStudy) -> None:
    first, last = study.views[0], study.views[-1]
    assert first.angle == 0 and last.angle == pytest.approx(np.pi)
    assert first.handle_share < 0.02 < 0.05 < last.handle_share
    assert {MUG, CUP} <= set(first.certifying) and CUP not in last.certifying
    assert MUG in last.certifying and last.residual_m[CUP] > study.threshold_m
    assert last.pair.tangent > 10 * first.pair.tangent
    # Pooled points cannot fix the shape better than the best of their views.
    assert first.pair == first.pooled_pair
    assert last.pooled_pair.tangent <= max(view.pair.tangent for view in study.views)
    assert np.isnan(first.image).any() and np.nanmax(last.image) > 1


def test_json_holds_the_views_without_images(study: DegeneracyStudy) -> None:
    written = study.to_json()
    assert [view["turn_deg"] for view in written["views"]] == pytest.approx([0, 90, 180])
    assert "image" not in written["views"][0]
    assert written["views"][0]["pair"]["tangent"] == study.views[0].pair.tangent


def test_the_figure_is_a_picture(study: DegeneracyStudy, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from crisp_ros.reports.degeneracy_figure import draw_degeneracy

    draw_degeneracy(study, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 800
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    orange = (pixels[:, 0] > 150) & (pixels[:, 0] > pixels[:, 2] + 80)
    assert orange.sum() > 200  # the handle


def test_a_library_without_a_mug_is_refused(known) -> None:
    with pytest.raises(StudyError, match="no 025_mug, only box"):
        degeneracy_study(known.decoder, known.library)
