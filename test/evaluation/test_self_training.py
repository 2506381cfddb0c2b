import math

import numpy as np
import pytest

from crisp_ros.evaluation.self_training import ObjectResult, Results, page


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


def test_the_page_shows_what_got_better_and_worse_and_escapes_names():
    before = Results((ObjectResult("<mug>", True, 0.01, 0.01), ObjectResult("cup", True, 0.0, 0.0)))
    after = Results((ObjectResult("<mug>", True, 0.0, 0.01), ObjectResult("cup", False, 0.02, 0.0)))
    text = page("Self-training", "lead", "footer", before, after)
    assert "&lt;mug&gt;" in text and "<mug>" not in text
    assert '<td class="better">+50.0' in text and '<td class="worse">-100.0' in text
    assert text.count("<svg") == 2 and "http" not in text.replace("http://www.w3.org", "")


def test_without_truth_there_are_no_curves():
    unknown = Results((ObjectResult("a", True),))
    text = page("t", "l", "f", unknown, unknown)
    assert "<svg" not in text and "100" in text
