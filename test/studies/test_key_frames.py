"""Key frames of a rotating mug with the shipped network, and the figure's stored result."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptation_samples import shipped_model
from known import load_known

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.studies.degeneracy_study import MUG
from crisp_ros.studies.key_frames import MugViews, _Evidence, key_frames
from crisp_ros.studies.study_error import StudyError

RESULT = Path(__file__).parents[2] / "docs" / "results" / "degeneracy.json"


def pair_and_all(model):
    """The mug next to the bowl, and the whole library."""
    library, field = model.library, DecoderField(model.network.decoder)
    rows = [library.names.index(name) for name in (MUG, "024_bowl")]
    pair = ShapeLibrary(
        (MUG, "024_bowl"), library.codes[rows], library.lower[rows], library.upper[rows]
    )
    return PreparedLibrary(field, pair), PreparedLibrary(field, library)


def test_certified_frames_are_pooled():
    model = shipped_model()
    views = MugViews(
        model.library.names.index(MUG), (-0.01, 0.0), (2.0, 1.5), np.deg2rad(20), 0.6, 0.001, 0
    )
    first, second = key_frames(model, views, *pair_and_all(model), CertificateSettings())
    assert first.certified and first.rotation_error < np.deg2rad(5)
    assert 0 < first.tangent and not first.degenerate, "no other library shape looks like it"
    assert second.tangent != first.tangent and first.coordinates_error_m < 0.03
    strict = CertificateSettings(threshold_m=1e-6)
    (nothing,) = key_frames(model, views._replace(angles=(1.5,)), *pair_and_all(model), strict)
    assert not nothing.certified and np.isnan(nothing.tangent) and not nothing.degenerate


class Looks:
    """The only part of an estimator that the evidence asks for."""

    def __init__(self, field):
        self.field = field


def evidence_of(known, *directions):
    """Evidence of key frames of a mug, each seen from one side and at its true pose."""
    (mug,) = known.named("mug")
    found = _Evidence(known.prepared, known.prepared, 0, CertificateSettings(threshold_m=0.008))
    for direction in directions:
        points = mug.surface(400, torch.Generator().manual_seed(0), direction).float()[None]
        valid = torch.ones(points.shape[:2], dtype=torch.bool)
        hypotheses = Hypotheses.of_points(points, valid, known.prepared.shapes(torch.tensor([0])))
        found.add(Looks(known.field), hypotheses)
    return found


HIDDEN, SHOWN = (-1.0, 0.0, 0.1), (0.0, 1.0, 0.2)  # the handle is at +x


def test_a_hidden_handle_raises_the_flag_until_it_is_seen():
    known = load_known().only("mug", "cylinder")
    hidden, both = evidence_of(known, HIDDEN), evidence_of(known, HIDDEN, SHOWN)
    assert hidden.explaining == ("mug", "cylinder") and hidden.degenerate
    assert both.explaining == ("mug",) and not both.degenerate
    assert not evidence_of(known, SHOWN).degenerate and not evidence_of(known).degenerate


def test_a_library_without_colours_is_refused():
    model = shipped_model()
    plain = dataclasses.replace(model.library, colors=())
    views = MugViews(0, (0.0, 0.0), (0.0,), 0.3, 0.6, 0.0, 0)
    with pytest.raises(StudyError, match="no colours"):
        key_frames(
            dataclasses.replace(model, library=plain),
            views,
            *pair_and_all(model),
            CertificateSettings(),
        )


def test_the_stored_flag_is_raised_until_the_handle_shows():
    frames = json.loads(RESULT.read_text())["key_frames"]
    hidden = [f for f in frames if f["turn_deg"] <= 40]
    seen = [f for f in frames if f["turn_deg"] >= 60]
    assert all(f["degenerate"] for f in hidden) and sum(f["certified"] for f in hidden) >= 2
    assert seen and not any(f["degenerate"] for f in seen)
    assert all(f["explaining"] == [MUG] for f in seen)
    assert seen[-1]["tangent"] > 10 * max(f["tangent"] for f in hidden)
