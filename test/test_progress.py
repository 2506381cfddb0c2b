"""Progress in logs."""

import pytest

from crisp_ros.progress import progress


def test_a_log_gets_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images") as on_image:
        for done in range(1, 201):
            on_image(done, 200)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[0] == "images: 20/200" and lines[-1] == "images: 200/200"
