"""The summary of several self-trainings, on made-up reports."""

from typing import Any

import pytest

from crisp_ros.studies.self_training_summary import FIGURES, summary


def compared(before: float, after: float) -> dict[str, Any]:
    """Figures before and after, all equal."""
    return {
        "before": {"objects": 7, **dict.fromkeys(FIGURES, before)},
        "after": {"objects": 7, **dict.fromkeys(FIGURES, after)},
        "certificates": {"won": 3, "lost": 1},
    }


def report(corrector: str, before: float, after: float) -> dict[str, Any]:
    """A report of `crisp self-train` with one held-out data set."""
    plain = ("passes", "kept_passes", "certified_share_after_passes", "model_version", "command")
    counts = ("steps", "swaps", "halved", "refused", "broken", "rollbacks")
    return {
        **dict.fromkeys((*plain, "version", "machine"), "text"),
        **compared(before, after),
        "corrector": corrector,
        "held_out": {"dusk": compared(0.5, 0.4)},
        "self_training": dict.fromkeys(counts, 2),
        "per_object": "left out",
    }


def test_changes_are_means_with_their_range() -> None:
    found = summary(
        [
            report("second_order", 0.5, 0.6),
            report("second_order", 0.5, 0.8),
            report("alg1", 0.5, 0.5),
        ]
    )
    assert list(found["change"]) == ["alg1", "second_order"]
    second = found["change"]["second_order"]
    assert second["runs"] == 2
    change = second["learned_from"]["auc_add_s_2cm"]
    assert change["before"] == 0.5 and change["after"] == pytest.approx(0.7)
    assert change["change"] == pytest.approx({"mean": 0.2, "min": 0.1, "max": 0.3})
    assert second["dusk"]["certificates"] == {"won": 6, "lost": 2}
    assert second["dusk"]["certified_share"]["change"]["mean"] == pytest.approx(-0.1)
    assert found["runs"][0]["steps"] == 2 and "per_object" not in found["runs"][0]
