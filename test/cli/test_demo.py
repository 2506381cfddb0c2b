"""`crisp demo`: a recording goes through the node of another process, over DDS, and is scored."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console, RenderableType
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from crisp_ros.cli import demo
from crisp_ros.cli.demo_graph import DemoError, Graph, free_domain
from crisp_ros.cli.demo_source import DemoSource
from crisp_ros.cli.demo_view import frame_line, live_view, summary
from crisp_ros.cli.main import main
from crisp_ros.cli.options import LEFT_OUT
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import bop_frames
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.recording_score import FrameScore, ObjectScore, RecordingScore
from crisp_ros.evaluation.true_shapes import SHAPES_NAME, load_shapes
from crisp_ros.share import bundled_recording

PATIENCE_S = 120.0
needs_ros = pytest.mark.skipif(find_spec("rclpy") is None, reason="there is no ROS 2")
STORE = get_typestore(Stores.ROS2_JAZZY)


def image(stamp_ns: int, pixels: np.ndarray, encoding: str) -> Any:
    kinds = STORE.types
    time = kinds["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    header = kinds["std_msgs/msg/Header"](time, "cam")
    (height, width), data = pixels.shape[:2], np.frombuffer(pixels.tobytes(), np.uint8)
    step = len(data) // height
    return kinds["sensor_msgs/msg/Image"](header, height, width, encoding, False, step, data)


def write_foreign_bag(folder: Path, source: Path) -> Path:
    """The images of a data set as somebody else might record them: SQLite, raw, other names."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections: dict[str, Any] = {}

        def send(topic: str, message: Any) -> None:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            stamp = message.header.stamp
            log_time = stamp.sec * 10**9 + stamp.nanosec
            writer.write(connections[topic], log_time, STORE.serialize_cdr(message, kind))

        for frame in bop_frames(BopDataset(source)):
            colour = image(frame.stamp_ns, frame.rgb[..., ::-1], "bgr8")
            info = STORE.types["sensor_msgs/msg/CameraInfo"](
                colour.header, colour.height, colour.width, "plumb_bob", np.zeros(5),
                frame.intrinsics.ravel(), np.eye(3).ravel(), np.zeros(12), 0, 0,
                STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
            )  # fmt: skip
            send("/front/color/camera_info", info)
            send("/front/color/image_raw", colour)
            late = frame.stamp_ns + 7_000_000
            send("/front/aligned_depth/image_raw", image(late, frame.depth, "32FC1"))
            send("/sam/labels", image(frame.stamp_ns, frame.labels.astype(np.int32), "32SC1"))
    return folder


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one thread, also in the node's process: threads change rounding."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@needs_ros
def test_a_data_set_gives_the_very_poses_of_the_evaluation(
    one_thread: None,
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [tmp_path / name for name in ("demo.json", "evaluate.json")]
    common = ["--checkpoint", str(checkpoint), "--device", "cpu", "--json"]
    output = tmp_path / "out"
    demo = ["demo", "--bop", str(folder), "--output", str(output), "--precision", "float32"]
    assert main([*demo, *common, str(files[0])]) == 0
    printed = capsys.readouterr().out
    assert main(["evaluate", "bop", str(folder), *common, str(files[1])]) == 0
    played, evaluated = (json.loads(file.read_text()) for file in files)
    assert played["answered"] == played["frames"] == 3

    images = {image: i for i, image in enumerate(BopDataset(folder).images)}
    names = {i: model.name for i, model in BopDataset(folder).models.items()}
    assert len(played["instances"]) == len(evaluated["instances"]) == 7
    for theirs in evaluated["instances"]:
        frame = images[theirs["scene"], theirs["image"]]
        ours = [
            instance
            for instance in played["instances"]
            if (instance["frame"], instance["name"]) == (frame, names[theirs["obj_id"]])
        ]
        # Of two instances of one object in an image, either may be meant.
        for key, tolerance in (("add_s_m", 1e-9), ("rotation_error_deg", 1e-6)):
            assert any(abs(o[key] - theirs[key]) < tolerance for o in ours)
        assert theirs["certified"] in [o["certified"] for o in ours]
    assert played["auc_add_s"] == pytest.approx(evaluated["auc_add_s"], abs=1e-9)

    assert set(played["stages_ms"]) >= {"network", "registration", "correction", "certificate"}
    assert played["round_trip_ms"]["median"] > 0 and played["model_version"].startswith("0.0.1")
    assert played["config"]["command"].startswith("crisp demo --bop")
    assert "frame 3/3: 2 objects" in printed and "median ADD-S" in printed
    page = (output / "report.html").read_text()
    assert "Latency" in page and "box" in page and "frame 2" in page
    sheet = cv2.imread(str(output / "overlays.png"))
    single = cv2.imread(str(output / "overlay_0001.png"))
    assert single.shape == (120, 160, 3) and sheet.shape == (120, 480, 3)
    np.testing.assert_array_equal(sheet[:, 160:320], single)


def test_corrector_and_shapes_are_parameters_of_the_node(tmp_path: Path) -> None:
    """The same names as in `crisp evaluate`."""
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    source = DemoSource("table", {}, SimpleNamespace(frames=lambda: iter(())), {})
    for options, corrector, shape in (
        ([], "second_order", "auto"),
        (["--corrector", "alg1", "--shape", "network"], "alg1", "network"),
    ):
        args = parser.parse_args(options)
        given = demo._parameters(args, source, tmp_path / "m.safetensors", tmp_path)["crisp"]
        assert (given["corrector"], given["shape_mode"]) == (corrector, shape)
    with pytest.raises(SystemExit):
        parser.parse_args(["--corrector", "alg3"])


@needs_ros
def test_a_foreign_bag_needs_no_names_and_no_truth(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_foreign_bag(tmp_path / "bag", folder)
    output, report = tmp_path / "out", tmp_path / "demo.json"
    options = ["--bag", str(bag), "--checkpoint", str(checkpoint), "--output", str(output)]
    assert main(["demo", *options, "--frames", "2", "--json", str(report)]) == 0
    figures = json.loads(report.read_text())
    assert figures["answered"] == figures["frames"] == 2 and figures["recording"] == "bag"
    assert "instances" not in figures and "median_add_s_m" not in figures
    printed = capsys.readouterr().out
    assert "object 1" in printed and "ADD-S" not in printed
    assert "Certificate" in (output / "report.html").read_text()


@needs_ros
def test_bad_images_are_left_out_and_change_the_exit_status(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_foreign_bag(tmp_path / "bag", folder)
    with closing(sqlite3.connect(next(bag.glob("*.db3")))) as base:
        (row,) = base.execute(
            "SELECT messages.id FROM messages JOIN topics ON topics.id = topic_id"
            " WHERE name = '/front/color/image_raw' ORDER BY timestamp LIMIT 1 OFFSET 1"
        ).fetchone()
        base.execute("UPDATE messages SET data = substr(data, 1, 100) WHERE id = ?", (row,))
        base.commit()
    output = tmp_path / "out"
    options = ["--checkpoint", str(checkpoint), "--device", "cpu", "--json", str(tmp_path / "a")]
    assert main(["demo", "--bag", str(bag), "--output", str(output), *options]) == LEFT_OUT
    error = capsys.readouterr().err
    assert "1 message or frame left out: 1 x /front/color/image_raw: a message that" in error
    report = json.loads((tmp_path / "a").read_text())
    assert report["answered"] == report["frames"] == 2 and "left out" in report["left_out"]
    assert "left out" in (output / "report.html").read_text()


@needs_ros
def test_an_interruption_ends_everything(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--bop", str(folder), "--checkpoint", str(checkpoint), "--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "crisp_ros.cli", "demo", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # some shells ignore it
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "results" / "results.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert len(_processes_of(tmp_path)) == 3  # itself, the node and the player
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130 and error == "crisp demo: interrupted\n"
    assert _processes_of(tmp_path) == []


def _processes_of(folder: Path) -> list[int]:
    """Those whose command lines name a folder."""
    found = []
    for process in (p for p in Path("/proc").iterdir() if p.name.isdecimal()):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@needs_ros
def test_what_the_node_says_is_passed_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    options = ["--bop", str(folder), "--checkpoint", str(broken), "--output", str(tmp_path / "out")]
    assert main(["demo", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("crisp demo: /crisp refused to configure") and error.count("\n") == 1
    assert "it says: cannot configure: model file" in error and "node.log" in error


@pytest.mark.parametrize(
    "options, status, complaint",
    [
        (["--bag", "nowhere.mcap"], 1, "nowhere.mcap: no such recording"),
        (["--bag", "notes.mcap"], 1, "notes.mcap: not a readable recording"),
        (["--bag", "."], 1, "not a recording; expected a rosbag2 folder"),
        (["--topic", "depth=/range"], 1, "no topic /range for depth; there are "),
        (["--topic", "range=/depth"], 2, "expected ROLE=NAME with a role of rgb, depth"),
        (["--bop", "nowhere"], 1, "nowhere"),
        (["--bop", ".", "--topic", "rgb=/rgb"], 1, "--topic is for bags"),
        (["--bop", ".", "--bag", "."], 2, "not allowed with"),
        (["--checkpoint", "nowhere"], 1, "nowhere: there is no such file"),
        (["--frames", "0"], 2, "expected a number from 1 on"),
        (["--smoothing", "-1"], 2, "expected seconds from 0 to 10"),
        (["--timeout", "soon"], 2, "expected seconds, more than 0"),
        (["--device", "tpu"], 2, "'tpu' is not a device"),
        (["--output", "mine"], 1, "mine/results is not of an earlier demo"),
    ],
)
def test_what_is_wrong_is_said_at_once_in_one_line(
    options: list[str],
    status: int,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.mcap").write_text("not a bag")
    Path("mine/results/precious").mkdir(parents=True)
    try:
        assert main(["demo", *options]) == status
    except SystemExit as end:
        assert end.code == status
    error = capsys.readouterr().err
    assert error.startswith("crisp demo: ") and error.count("\n") == 1 and complaint in error
    assert Path("mine/results/precious").exists()


# The processes' notes and ends, without ROS.


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Callable[[str, str], Graph]]:
    """A graph of two scripts that stand for node and player; they write into the test's folder."""
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(node: str, player: str) -> Graph:
        for name, script in (("node", node), ("player", player)):
            with (tmp_path / f"{name}.log").open("w") as log:
                processes[name] = subprocess.Popen(
                    ["sh", "-c", script], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
                )
        return Graph(tmp_path, processes)

    yield make
    for process in processes.values():
        process.kill()
        process.wait()


def noted(entry: dict[str, Any], end: str = "\n") -> str:
    return f"printf '%s{end}' '{json.dumps(entry)}' >> results.jsonl;"


def test_notes_come_up_to_the_end_however_they_are_cut(graph: Callable[[str, str], Graph]) -> None:
    entries = [{"kind": "state", "text": str(i)} for i in range(3)]
    whole = json.dumps(entries[1])
    cut = f"printf '%s' '{whole[:9]}' >> results.jsonl; sleep 0.2;"
    cut += f"printf '%s' '{whole[9:]}' >> results.jsonl; echo >> results.jsonl;"
    player = noted(entries[0]) + cut + noted(entries[2]) + noted({"kind": "end", "answered": 0})
    assert list(graph("exec sleep 60", player).notes()) == entries


@pytest.mark.parametrize(
    "node, player, complaint",
    [
        (
            "echo out of memory; exit 3",
            "exec sleep 60",
            "node has ended, status 3; .*out of memory",
        ),
        ("kill -SEGV $$", "exec sleep 60", "the node has ended, killed by SIGSEGV; .*nothing"),
        ("exec sleep 60", "echo 'no DDS' >&2; exit 1", "the player has ended, status 1; .*no DDS"),
        (
            "echo '[INFO] [1] [crisp]: up'; echo '[ERROR] [2] [crisp]: no memory'; exec sleep 60",
            "sleep 0.3;" + noted({"kind": "error", "text": "it refused"}),
            "it refused; it says: no memory .log: .*node.log",
        ),
    ],
)
def test_an_early_end_is_an_error_that_says_why(
    graph: Callable[[str, str], Graph], node: str, player: str, complaint: str
) -> None:
    with pytest.raises(DemoError, match=complaint):
        list(graph(node, player).notes())


@pytest.mark.parametrize("participant", [0, 1, 32])
def test_a_domain_in_use_is_not_taken(participant: int) -> None:
    first = free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 7400 + 250 * first + 10 + 2 * participant))
        second = free_domain()
        assert second != first and 0 < second <= 101
    assert free_domain() == first


# What a terminal shows.


def shown(view: RenderableType, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))
    console.print(view)
    return console.export_text()


def pose(x: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, -0.5, 1.25
    return T


def scores() -> list[FrameScore]:
    good = ObjectScore(
        0, 1, "mug", T_camera_object=pose(0.125), add_s_m=0.002, rotation_error_rad=np.pi / 6,
        certified=True,
    )  # fmt: skip
    bad = ObjectScore(
        0, 2, "a_long_name_of_an_object", T_camera_object=pose(-1.0), add_s_m=0.05,
        rotation_error_rad=np.pi, reason="q98 22.3 mm > 10 mm",
    )  # fmt: skip
    missed = ObjectScore(0, 3, "bowl", add_s_m=np.inf, rotation_error_rad=np.inf)
    return [
        FrameScore(0, (good, bad, missed), {"network": 20.0, "correction": 8.0}, 31.0),
        FrameScore(1, (missed,)),
    ]


def test_the_live_table_shows_the_newest_frame() -> None:
    first, unanswered = scores()
    text = shown(live_view([first], "playing", 7))
    assert "frame 1 of 7" in text
    (mug,) = (line.split() for line in text.splitlines() if "mug" in line)
    assert mug == ["mug", "0.125", "-0.500", "1.250", "2.0", "30.0", "yes"]
    assert "no: q98 22.3 mm > 10 mm" in text and "missed" in text
    assert "31 ms from images to estimates (network 20, correction 8)" in text
    assert "median ADD-S 50.0 mm, 33.3 % certified, median 31 ms" in text
    assert "no answer" in shown(live_view([first, unanswered], "playing", 7))
    assert shown(live_view([], "configure the node", 7)).strip() == "configure the node ..."


def test_on_a_narrow_terminal_figures_stay_whole() -> None:
    lines = shown(live_view(scores()[:1], "playing", 7), width=72).splitlines()
    (bad,) = (line for line in lines if "a_long" in line)
    assert "-1.000 -0.500  1.250" in bad and "50.0" in bad and "180.0" in bad
    assert all(len(line) <= 72 for line in lines)


def test_a_line_a_frame() -> None:
    first, unanswered = scores()
    assert frame_line(first, 7) == "frame 1/7: 3 objects, median ADD-S 50.0 mm, 1 certified, 31 ms"
    assert frame_line(unanswered, 7) == "frame 2/7: no answer"


def test_the_summary_states_accuracy_and_latency() -> None:
    text = shown(summary(RecordingScore(tuple(scores()))))
    rows = [line.split() for line in text.splitlines()]
    assert ["mug", "1", "2.0", "30.0", "100", "%"] in rows and [
        "bowl",
        "2",
        "–",
        "–",
        "0",
        "%",
    ] in rows
    assert "1 of 2" in text and "31 and 31 ms" in text
    blind = [FrameScore(0, (ObjectScore(0, 1, "mug", certified=True),), {"network": 5.0}, 9.0)]
    text = shown(summary(RecordingScore(tuple(blind))))
    assert "ADD-S" not in text and "100 %" in text and "9 and 9 ms" in text


def test_the_recording_that_comes_along_is_small_and_complete() -> None:
    folder = bundled_recording()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8.0e6
    shapes = load_shapes(folder / SHAPES_NAME)
    frames = list(Recording(folder).frames())
    assert len(frames) == 40
    for frame in frames:
        assert len(frame.truth) == 8 and {true.name for true in frame.truth} <= set(shapes)
        assert frame.T_world_camera is not None and frame.depth.dtype == np.uint16
        assert {true.label for true in frame.truth} <= set(np.unique(frame.labels))
