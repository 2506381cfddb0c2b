import math

import numpy as np
import pytest

from crisp_ros.evaluation.self_training_comparison import (
    Comparison,
    ObjectResult,
    Results,
    load_results,
    save_results,
)


def results(*errors, certified=True):
    return Results(tuple(ObjectResult("mug", certified, e, e) for e in errors))


def test_figures_are_those_of_the_metrics():
    mixed = Results(
        (
            ObjectResult("mug", True, 0.005, 0.01),
            ObjectResult("mug", False, math.inf, math.inf),
            ObjectResult("bowl", True, 0.01, 0.02),
            ObjectResult("unknown", True),
        )
    )
    assert mixed.auc_add_s == pytest.approx(np.mean([0.75, 0.0, 0.5]))
    assert mixed.auc_chamfer == pytest.approx(np.mean([0.8, 0.0, 0.6]))
    assert mixed.certified_share == 0.75 and mixed.certified_within_2cm == 1.0
    assert mixed.names == ["bowl", "mug", "unknown"] and len(mixed.of("mug").objects) == 2
    assert mixed.of("unknown").to_json()["auc_add_s_2cm"] is None


def test_won_and_lost_certificates_are_counted_per_object():
    flags = ((True, True), (True, False), (False, True), (False, True), (False, False))
    sides = zip(*flags, strict=True)
    compared = Comparison(*(Results(tuple(ObjectResult("a", f) for f in side)) for side in sides))
    assert compared.won == 2 and compared.lost == 1
    assert compared.to_json()["certificates"] == {"won": 2, "lost": 1}
    assert "40.0 % -> 60.0 % (2 won, 1 lost)" in compared.summary


def test_results_with_unknown_and_infinite_values_round_trip(tmp_path):
    rows = (ObjectResult("a", True, 0.0123, math.inf), ObjectResult("b", False))
    save_results(tmp_path / "results.json", Results(rows))
    first, second = load_results(tmp_path / "results.json").objects
    assert first == rows[0] and second.name == "b" and not second.certified
    assert math.isnan(second.add_s_m) and math.isnan(second.chamfer_m)
