"""NOCS: images, poses and models of a small data set, and errors that name the file."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from damage import Damage, cut, paint, remove, write
from drawing import needs_egl
from small_nocs import CLASS_IDS, diagonal, items, metric_mesh, write_small_nocs

from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import signed_distance
from crisp_ros.data.nocs import SUBSETS, NocsDataset, NocsFrame, NocsImage
from crisp_ros.data.nocs_truth import read_detections

SEEDS = {"camera_val": 0, "real_test": 10, "real_train": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_egl()
    return write_small_nocs(tmp_path_factory.mktemp("nocs"))


def disagreement(frame: NocsFrame, seed: int) -> tuple[float, float, float]:
    """Largest errors: degrees, metres, and of the diagonal over the true one."""
    angles, shifts, scales = [], [], []
    for instance, true in zip(frame.instances, items(seed), strict=True):
        assert (instance.label, instance.category) == (true.label, true.category)
        R = instance.T_camera_object[:3, :3].T @ true.T_camera_object[:3, :3]
        angles.append(np.degrees(2 * np.arcsin(np.linalg.norm(R - np.eye(3)) / np.sqrt(8))))
        shifts.append(np.linalg.norm((instance.T_camera_object - true.T_camera_object)[:3, 3]))
        scales.append(abs(instance.diagonal_m / diagonal(true.category) - 1))
    return max(angles), max(shifts), max(scales)


@pytest.mark.parametrize("subset", ["camera_val", "real_test"])
def test_published_poses_are_exact(folder: Path, subset: str) -> None:
    for index, frame in enumerate(NocsDataset(folder, subset).frames()):
        assert max(disagreement(frame, SEEDS[subset] + index)) < 1e-6
        for instance in frame.instances:
            edges = metric_mesh(instance.category).extents
            np.testing.assert_allclose(instance.size_m, edges, atol=1e-9)
            assert instance.handle_visible == (instance.category != "mug")


@pytest.mark.parametrize("subset", SEEDS)
def test_without_them_poses_are_found_from_the_maps(
    folder: Path, tmp_path: Path, subset: str
) -> None:
    """Coordinates have 8 bits, about a millimetre, and depth whole millimetres."""
    shutil.copytree(folder, tmp_path / "data")
    remove("gts")(tmp_path / "data")
    for index, frame in enumerate(NocsDataset(tmp_path / "data", subset).frames()):
        degrees, metres, scale = disagreement(frame, SEEDS[subset] + index)
        assert degrees < 0.5 and metres < 1e-3 and scale < 2e-3
        assert subset == "camera_val" or scale < 1e-6  # real models are measured


@pytest.mark.parametrize("subset", SEEDS)
def test_depth_maps_and_meshes_agree(folder: Path, subset: str) -> None:
    """Close the chain of encodings, flipped axes, scales and frames."""
    frame = next(NocsDataset(folder, subset).frames())
    assert set(np.unique(frame.labels)) == {0, 2, 4, 5}
    for instance in frame.instances:
        v, u = np.nonzero(frame.labels == instance.label)
        assert instance.visible_px == len(u) > 1000
        pixels = np.stack([u, v, np.ones_like(u)], axis=1)
        points = frame.depth[v, u, None] * (pixels @ np.linalg.inv(frame.intrinsics).T)
        seen = trimesh.transform_points(points, np.linalg.inv(instance.T_camera_object))
        mapped = instance.diagonal_m * frame.coordinates[v, u]
        assert np.abs(seen - mapped).max() < 2e-3
        assert np.abs(signed_distance(instance.mesh, mapped[::20])).max() < 2e-3
        assert instance.mesh.volume > 0


def test_a_subset_of_each_kind_is_known_and_lower_case_too(folder: Path, tmp_path: Path) -> None:
    assert set(SEEDS) < set(SUBSETS)
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data/CAMERA").rename(tmp_path / "data/camera")
    (tmp_path / "data/Real").rename(tmp_path / "data/real")
    assert NocsDataset(tmp_path / "data", "camera_val").images == (
        NocsImage("00000", "0000"), NocsImage("00000", "0001"),
    )  # fmt: skip
    assert NocsDataset(tmp_path / "data", "real_train").images == (NocsImage("scene_1", "0007"),)


def test_the_later_name_of_annotations_is_known(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    gts = tmp_path / "data/gts/real_test"
    for path in list(gts.iterdir()):
        path.rename(gts / path.name.replace("results_real_test", "results_test"))
    dataset = NocsDataset(tmp_path / "data")
    assert dataset.truth_path(dataset.images[0]).name == "results_test_scene_1_0000.pkl"
    assert NocsDataset(folder, "real_train").truth_path(NocsImage("scene_1", "0007")) is None


def test_an_instance_with_hardly_any_depth_has_no_pose(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    stem = tmp_path / "data/Real/train/scene_1/0007"
    mask = cv2.imread(f"{stem}_mask.png", cv2.IMREAD_UNCHANGED)
    depth = cv2.imread(f"{stem}_depth.png", cv2.IMREAD_UNCHANGED)
    depth[mask[..., 2] == 4] = 0
    cv2.imwrite(f"{stem}_depth.png", depth)
    frame = next(NocsDataset(tmp_path / "data", "real_train").frames())
    assert [instance.label for instance in frame.instances] == [2, 5]
    assert set(np.unique(frame.labels)) == {0, 2, 5}


def annotate(change: Callable[[dict], object], name: str = "gts/real_test/") -> Damage:
    def apply(folder: Path) -> None:
        path = folder / name / "results_real_test_scene_1_0000.pkl"
        content = pickle.loads(path.read_bytes())
        change(content)
        path.write_bytes(pickle.dumps(content))

    return apply


STEM = "Real/test/scene_1/0000"
BLACK = np.zeros((480, 640, 3), np.uint8)
SMALL = np.zeros((4, 5, 3), np.uint8)
GTS = "gts/real_test/results_real_test_scene_1_0000.pkl"
FLAWS = {
    "Real/test: no such folder": remove("Real"),
    "Real/test: no image in it": remove("Real/test/scene_1"),
    "obj_models/real_test: no such folder": remove("obj_models"),
    "bottle_a_norm.obj: no such file, but .*0000_meta.txt: line 3": remove(
        "obj_models/real_test/bottle_a_norm.obj"
    ),
    "0000_color.png: expected an image": cut(STEM + "_color.png"),
    "0000_color.png: 5 x 4 pixels": paint(STEM + "_color.png", SMALL),
    "0000_depth.png: expected an image": remove(STEM + "_depth.png"),
    "0000_depth.png: 5 x 4 pixels": paint(STEM + "_depth.png", SMALL),
    "0000_depth.png: expected 16 bits": paint(STEM + "_depth.png", BLACK[..., 0]),
    "0000_mask.png: expected an image": remove(STEM + "_mask.png"),
    "0000_mask.png: expected three or four channels": paint(STEM + "_mask.png", BLACK[..., 0]),
    "0000_coord.png: expected an image": cut(STEM + "_coord.png"),
    "0000_coord.png: expected three or four channels": paint(
        STEM + "_coord.png", BLACK.astype(np.uint16)
    ),
    "0000_meta.txt: no such file": remove(STEM + "_meta.txt"),
    "line 1: expected an instance id, a class id and a model": write(STEM + "_meta.txt", "1 2\n"),
    "line 1: expected an instance id, a class id": write(STEM + "_meta.txt", "one 2 x\n"),
    "line 2: expected an instance id of its own": write(STEM + "_meta.txt", "2 1 x\n2 1 x\n"),
    "line 1: expected an instance id of its own": write(STEM + "_meta.txt", "255 1 x\n"),
    "line 1: class 9: expected 0 to 6": write(STEM + "_meta.txt", "2 9 x\n"),
    "line 1: expected the name of a model": write(STEM + "_meta.txt", "2 1 ../../x\n"),
    "_0000.pkl: not a readable pickle": cut(GTS),
    "_0000.pkl: expected a pickled dict": lambda f: (f / GTS).write_bytes(pickle.dumps([])),
    "_0000.pkl: refused": annotate(lambda c: c.update(evil=Path("x"))),
    "_0000.pkl: expected a field gt_RTs": annotate(lambda c: c.pop("gt_RTs")),
    "gt_RTs: expected finite numbers of shape": annotate(
        lambda c: c.update(gt_RTs=c["gt_RTs"][:2])
    ),
    "gt_RTs: expected finite": annotate(lambda c: c["gt_RTs"].__setitem__((0, 0, 0), np.nan)),
    "gt_RTs: expected rotations": annotate(lambda c: c["gt_RTs"].__imul__(-1)),
    "expected a rotation matrix": annotate(lambda c: c["gt_RTs"].__setitem__((0, 0, 0), 9.0)),
    "gt_class_ids: expected .1, 6, 5.": annotate(lambda c: c["gt_class_ids"].sort()),
    "gt_scales: expected positive": annotate(lambda c: c["gt_scales"].__imul__(0)),
    "gt_scales: expected finite numbers": annotate(lambda c: c.update(gt_scales=10**400)),
    "handle_visibility: expected finite numbers": annotate(
        lambda c: c.update(handle_visibility=None)
    ),
}


@pytest.mark.parametrize("message", FLAWS)
def test_every_flaw_is_named_with_its_file(folder: Path, tmp_path: Path, message: str) -> None:
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("CAMERA", "train"))
    FLAWS[message](tmp_path / "data")
    with pytest.raises(DatasetError, match=message) as refusal:
        dataset = NocsDataset(tmp_path / "data")
        dataset.frame(dataset.images[0])
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "1 2", "1 2 x", "1 2 -3", "nan 1 1"])
def test_an_unmeasured_model_is_named(folder: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("CAMERA", "test"))
    write("obj_models/real_train/mug_a_norm.txt", text)(tmp_path / "data")
    with pytest.raises(DatasetError, match="mug_a_norm.txt: expected the three edges"):
        list(NocsDataset(tmp_path / "data", "real_train").frames())


def test_an_unknown_subset_and_a_missing_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="subset val: expected one of camera_train"):
        NocsDataset(folder, "val")
    with pytest.raises(DatasetError, match="absent: no such folder"):
        NocsDataset(tmp_path / "absent")


def found(**changed: object) -> dict:
    masks = np.zeros((4, 6, 2), bool)
    masks[:2, :, 0] = masks[2:, :3, 1] = True
    return {
        "class_ids": np.array([CLASS_IDS["mug"], 1]),
        "scores": np.array([0.9, 0.4], np.float32),
        "masks": masks,
        "rois": np.zeros((2, 4)),
    } | changed


@pytest.mark.parametrize("prefix", ["", "pred_"])
def test_detections_are_read_under_both_names(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "found.pkl"
    path.write_bytes(pickle.dumps({prefix + key: value for key, value in found().items()}))
    detections = read_detections(path, (4, 6))
    assert detections.class_ids.tolist() == [6, 1]
    np.testing.assert_allclose(detections.scores, [0.9, 0.4])
    assert detections.masks.shape == (2, 4, 6)
    assert detections.masks[0, :2].all() and detections.masks[1].sum() == 6


def test_an_image_without_detections_is_read(tmp_path: Path) -> None:
    path = tmp_path / "found.pkl"
    content = found(class_ids=np.zeros(0), scores=np.zeros(0), masks=np.zeros((4, 6, 0)))
    path.write_bytes(pickle.dumps(content))
    assert len(read_detections(path, (4, 6)).class_ids) == 0


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"class_ids": np.array([7, 1])}, "class_ids: expected whole numbers"),
        ({"class_ids": np.array([1.5, 1])}, "class_ids: expected whole numbers"),
        ({"scores": np.zeros(3)}, "scores: expected finite numbers of shape .2,"),
        ({"masks": np.zeros((6, 4, 2))}, "masks: expected finite numbers"),
        ({"masks": "none"}, "masks: expected finite numbers"),
    ],
)
def test_wrong_detections_are_refused(tmp_path: Path, changed: dict, message: str) -> None:
    path = tmp_path / "found.pkl"
    path.write_bytes(pickle.dumps(found(**changed)))
    with pytest.raises(DatasetError, match=message):
        read_detections(path, (4, 6))
