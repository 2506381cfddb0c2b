"""Figures of poses by tables against those by the decoder."""

import numpy as np
import pytest

from crisp_ros.studies import table_poses
from crisp_ros.studies.table_poses import Difference, summary


def test_figures_count_what_differs() -> None:
    found = [
        Difference("mug", 0.01, 0.02, (True, True), True),
        Difference("mug", 0.30, 0.02, (True, True), False),
        Difference("can", 0.01, 0.50, (False, False), True),
        Difference("can", 0.05, 0.05, (True, False), True),
    ]
    figures = summary(found)
    assert figures["objects"] == 4 and figures["same_pose"] == 2
    assert figures["same_certificate"] == 3
    assert figures["other_pose_by_shape"] == {"mug": 1, "can": 1}
    assert figures["other_pose_not_converged"] == 1
    assert (figures["certified"], figures["certified_same_pose"]) == (2, 1)
    assert figures["certified_p99_mm"] == pytest.approx(0.297, abs=1e-3)


def test_limits_must_leave_steps(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["table_poses", "--evaluations", "4"])
    with pytest.raises(SystemExit):
        table_poses.main()
    assert "from 6 on" in capsys.readouterr().err


def test_differences_are_in_millimetres_and_degrees() -> None:
    class Model:
        class library:
            names = ("mug",)

    class Estimate:
        shape_index, certified = 0, True

        def __init__(self, angle: float, x: float) -> None:
            c, s = np.cos(angle), np.sin(angle)
            self.T_camera_object = np.array(
                [[c, -s, 0, x], [s, c, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]]
            )

    found = table_poses._difference(Model, Estimate(0.3, 0.001), Estimate(0.2, 0.003), True)
    assert (found.mm, found.deg) == (pytest.approx(2.0), pytest.approx(np.degrees(0.1)))
    assert found.shape == "mug" and not found.is_same
