"""The page: one file that needs no other, and what it holds is what was measured."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from crisp_ros.evaluation.recording_score import FrameScore, ObjectScore, RecordingScore
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.reports.html_report import Report, html_report
from crisp_ros.reports.scene_data import SceneFrame, Surface, shown_frames
from crisp_ros.reports.scene_points import Cloud, ScenePoints

VERTICES = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, -0.1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
T_CAMERA = np.array([[0, 0, 1.0, -1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]])
CLOUD = Cloud(
    np.array([[0, 0, 0.5], [0.1, 0.2, 1.0], [9, 9, 9]], np.float32),
    np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8),
    np.array([True, False, False]),
    0.004,
)
POINTS = ScenePoints(True, [CLOUD], [0], (0.4, 0.3))
JPEG = b"\xff\xd8 not shown here"


def pose(z: float) -> np.ndarray:
    T = np.eye(4)
    T[2, 3] = z
    return T


def score(truth: bool = True) -> RecordingScore:
    errors = {"add_s_m": 0.002, "rotation_error_rad": 0.1} if truth else {}
    good = ObjectScore(
        0, 1, "mug", T_camera_object=pose(1), certified=True, residual_m=0.004, id="mug_1",
        mesh_version=3, **errors,
    )  # fmt: skip
    withheld = ObjectScore(
        1, 1, "mug", T_camera_object=pose(2), reason="q98 13 mm > 10 mm", residual_m=0.013,
        id="mug_1", mesh_version=4, **errors,
    )  # fmt: skip
    missed = ObjectScore(1, 2, "a<b", add_s_m=np.inf, rotation_error_rad=np.inf)
    objects = [(good,), (withheld, missed) if truth else (withheld,)]
    stages = {"network": 20.0, "correction": 8.0}
    return RecordingScore(tuple(FrameScore(i, o, stages, 30.0) for i, o in enumerate(objects)))


def report(truth: bool = True, in_world: bool = True, **changes: Any) -> str:
    T = T_CAMERA if in_world else None
    known = [("mug", pose(1.01))] if truth else []
    parts: dict[str, Any] = {
        "title": "Title & <b>", "lead": "Lead", "footer": "one\ntwo",
        "score": score(truth),
        "frames": [SceneFrame(0, JPEG, T, known), SceneFrame(1, b"", T)],
        "surfaces": {("mug_1", 3): Surface(VERTICES, FACES)},
        "shapes": {"mug": TrueShape(VERTICES.astype(float), np.eye(3)[None])} if truth else {},
        "points": POINTS._replace(in_world=in_world, cloud_of_frame=[0, None]),
    }  # fmt: skip
    return html_report(Report(**{**parts, **changes}))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r"const \{frames: FRAMES, scene: SCENE\} = (\{.*?\});</script>", page)
    return json.loads(found[1])


def decoded(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


class Tags(HTMLParser):
    """Collects what a page would load, and checks that what opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attributes if name in ("src", "href") and value]
        if tag not in ("meta", "img", "input", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, content: str) -> None:
        self.text.append(content)


@pytest.mark.parametrize("truth", [True, False])
def test_the_page_is_whole_and_loads_nothing(truth: bool) -> None:
    page = report(truth)
    tags = Tags(page)
    assert tags.links == [] and "http" not in page.replace("http://www.w3.org", "")
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "Title & <b>" in tags.text and "<br>two" in page


def test_numbers_and_charts_show_errors_if_the_truth_is_known() -> None:
    text = " ".join(Tags(report()).text)
    for words in ("median ADD-S", "Rotation error", "Accuracy", "Latency", "q98 13 mm > 10 mm"):
        assert words in text
    assert "a<b, frame 1: missed, not certified" in text
    without = " ".join(Tags(report(truth=False)).text)
    assert "ADD-S" not in without and "Certificate" in without and "Latency" in without
    assert "mug, frame 1: 13.0 mm, q98 13 mm > 10 mm" in without


def test_bars_of_the_latency_add_up_to_the_round_trip() -> None:
    text = Tags(report()).text
    bars = [float(t.split(": ")[1]) for t in text if t.startswith("frame 0, ")]
    assert bars == [20.0, 8.0, 2.0]  # the last is what is left: the way there and back


def test_meshes_poses_and_overlays_come_back() -> None:
    data = data_of(report())
    first, second = data["frames"]
    assert base64.b64decode(first["image"]) == JPEG and second["image"] == ""
    ((index, place, certified),) = first["shown"]
    assert certified is True and second["shown"] == []  # of the second version no surface came
    np.testing.assert_allclose(np.reshape(place, (4, 4)).T, T_CAMERA @ pose(1), atol=1e-6)
    mesh = data["scene"]["meshes"][index]
    vertices = decoded(mesh["vertices"], "<i2").reshape(-1, 3) * mesh["unit"]
    np.testing.assert_allclose(vertices, VERTICES, atol=4e-6)
    np.testing.assert_array_equal(decoded(mesh["faces"], "<u4").reshape(-1, 3), FACES)
    ((true_index, true_place),) = first["truth"]
    np.testing.assert_allclose(np.reshape(true_place, (4, 4)).T, T_CAMERA @ pose(1.01), atol=1e-6)
    truth = data["scene"]["truths"][true_index]
    points = decoded(truth["points"], "<i2").reshape(-1, 3) * data["scene"]["truth_unit"]
    np.testing.assert_allclose(points, VERTICES, atol=1.1e-5)


def test_points_of_objects_come_last_and_far_ones_not_at_all() -> None:
    scene = data_of(report())["scene"]
    (cloud,) = scene["clouds"]
    assert (cloud["count"], cloud["around"], cloud["spacing"]) == (2, 1, 0.004)
    points = decoded(cloud["points"], "<i2").reshape(-1, 3) * scene["cloud_unit"]
    np.testing.assert_allclose(points, [[0.1, 0.2, 1.0], [0, 0, 0.5]], atol=1e-4)
    assert decoded(cloud["colours"], "u1").tolist() == [0, 255, 0, 255, 0, 0]


def test_a_camera_of_unknown_place_stands_upright() -> None:
    data = data_of(report(in_world=False))
    ((_, place, _),) = data["frames"][0]["shown"]
    T = np.reshape(place, (4, 4)).T
    np.testing.assert_allclose(T[:3, 3], [0, 1, 0])  # ahead of the camera, z up
    np.testing.assert_allclose(T[:3, :3] @ [0, -1, 0], [0, 0, 1])
    assert not data["scene"]["in_world"] and data["frames"][1]["cloud"] is None


def test_a_frame_whose_camera_is_lost_shows_nothing_in_the_scene() -> None:
    frames = [SceneFrame(0, JPEG, T_CAMERA), SceneFrame(1, JPEG, None)]
    surfaces = {("mug_1", v): Surface(VERTICES, FACES) for v in (3, 4)}
    first, second = data_of(report(frames=frames, surfaces=surfaces))["frames"]
    assert first["shown"] and first["camera"]
    assert second["shown"] == [] and second["camera"] is None and second["image"]


def test_a_long_recording_shows_some_frames_and_charts_all() -> None:
    assert shown_frames(3) == [0, 1, 2]
    shown = shown_frames(1000)
    assert shown[0] == 0 and shown[-1] == 999 and len(shown) < 300
    assert max(np.diff(shown)) - min(np.diff(shown)) <= 1
    last = [SceneFrame(1, JPEG, T_CAMERA)]
    surfaces = {("mug_1", v): Surface(VERTICES, FACES) for v in (3, 4)}
    page = report(frames=last, points=POINTS, surfaces=surfaces)
    (frame,) = data_of(page)["frames"]
    assert frame["index"] == 1 and frame["shown"][0][2] is False
    assert len(data_of(page)["scene"]["meshes"]) == 1  # of what is shown
    assert "mug, frame 0: 2.0 mm, certified" in Tags(page).text


def test_shapes_are_measured_against_the_truth() -> None:
    ball = TrueShape(VERTICES.astype(float), np.eye(3)[None])
    near = Surface(VERTICES + np.float32([0.001, 0, 0]), FACES)
    page = report(surfaces={("mug_1", 3): near, ("mug_1", 4): near}, shapes={"mug": ball})
    row = re.search(r"<tr><td><i [^>]*></i>mug</td>(.*?)</tr>", page)[1]
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells[:4] == ["2", "50 %", "2.0", "5.7"] and 0.0 < float(cells[4]) <= 1.1


def test_text_cannot_end_the_script() -> None:
    frame = FrameScore(0, (ObjectScore(0, 1, "</script>x", id="</script>", mesh_version=1),))
    page = report(
        score=RecordingScore((frame,)), frames=[SceneFrame(0, b"", T_CAMERA)], points=POINTS
    )
    assert page.count("</script>") == 2
