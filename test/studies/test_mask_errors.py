import math

from crisp_ros.studies.mask_errors import Verdict, condition_rows, fault_rows


def verdict(fault: str, name: str, add_s_m: float, certified: bool, **held: bool) -> Verdict:
    return Verdict(fault, "table", 0, name, 1.0, add_s_m, 0.1, certified, certified, "", held)


FOUND = [
    verdict("none", "can", 0.002, True, fit=True, silhouette=True),
    verdict("none", "box", 0.003, False, fit=True, silhouette=False),
    verdict("none", "mug", 0.03, True, fit=True, silhouette=True),
    verdict("grown", "can", 0.002, False, fit=False, silhouette=False),
    verdict("grown", "box", 0.015, True, fit=True, silhouette=True),
    verdict("grown", "mug", math.inf, False),
    verdict("depth x 1.1", "can", 0.08, False, fit=False, silhouette=True),
]


def test_false_and_missed_certificates_are_counted() -> None:
    clean, grown, _ = fault_rows(FOUND)
    assert clean[:7] == ("none", 3, 2, 2, 1, 1, 1) and clean.kept == 1.0
    assert grown[:7] == ("grown", 3, 1, 1, 1, 1, 0) and grown.kept == 0.0
    assert clean.orientation_certified == 2 and clean.orientation_wrong == 0


def test_conditions_are_counted_without_scaled_depth() -> None:
    fit, silhouette = condition_rows(FOUND)
    assert fit == ("fit", 1, 0, 0, 0)
    assert silhouette == ("silhouette", 2, 1, 0, 0)
