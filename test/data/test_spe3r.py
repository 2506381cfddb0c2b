"""SPE3R: splits, poses and derived maps of a small data set, and errors that name the file."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from damage import cut, edit, paint, remove, write
from drawing import needs_egl
from small_spe3r import INTRINSICS, SIZE, satellite_mesh, satellite_pose, write_small_spe3r

from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import MeshError, signed_distance
from crisp_ros.data.spe3r import Spe3rDataset, Spe3rImage
from crisp_ros.synthesis.spe3r_maps import write_maps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_egl()
    folder = write_small_spe3r(tmp_path_factory.mktemp("spe3r"))
    assert write_maps(Spe3rDataset(folder, "all")) == 9
    return folder


def test_splits_are_those_of_the_file(folder: Path) -> None:
    """Without the satellite whose poses are known to be wrong."""
    assert list(Spe3rDataset(folder, "train").satellites) == ["cubesat", "long_panel"]
    assert list(Spe3rDataset(folder, "test").satellites) == ["drum"]
    assert list(Spe3rDataset(folder, "all").satellites) == ["cubesat", "long_panel", "drum"]
    assert Spe3rDataset(folder).images == tuple(Spe3rImage("drum", i) for i in range(3))


def test_training_and_validation_share_a_thousand_images(folder: Path) -> None:
    train, validation = Spe3rDataset(folder, "train"), Spe3rDataset(folder, "validation")
    for dataset in (train, validation):
        first = dataset.satellites["cubesat"]
        dataset.satellites = {"cubesat": replace(first, labels=first.labels[:1] * 1000)}
    trained = {image.index for image in train.images}
    assert trained == {*range(400), *range(500, 900)}
    assert {image.index for image in validation.images} == set(range(1000)) - trained


def test_maps_masks_poses_and_meshes_agree(folder: Path) -> None:
    for frame in Spe3rDataset(folder, "all").frames():
        name, index = frame.image
        np.testing.assert_allclose(frame.T_camera_object, satellite_pose(name, index), atol=1e-12)
        v, u = np.nonzero(frame.labels)
        assert len(u) > 100
        pixels = np.stack([u, v, np.ones_like(u)], axis=1)
        points = frame.depth[v, u, None] * (pixels @ np.linalg.inv(INTRINSICS).T)
        seen = trimesh.transform_points(points, np.linalg.inv(frame.T_camera_object))
        step = 100 / 65536
        assert np.abs(seen - frame.coordinates[v, u]).max() < step
        assert np.abs(signed_distance(satellite_mesh(name), seen)).max() < step
        # The drawing of masks in the test takes in the pixels of the border, too.
        drawn = Spe3rDataset(folder, "all").picture(frame.image)[1]
        assert not (frame.depth[~drawn] > 0).any() and (drawn & (frame.depth == 0)).sum() < 60


def test_maps_are_made_once_and_an_interruption_is_no_loss(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    dataset = Spe3rDataset(tmp_path / "data", "all")
    assert write_maps(dataset) == 0
    lost = tmp_path / "data/drum/nocs/img000002.png"
    before = lost.read_bytes()
    lost.unlink()
    assert write_maps(dataset) == 1
    assert lost.read_bytes() == before


SAT = "drum/"
IMAGE = "img000002"
FLAWS = {
    "camera.json: no such file": remove("camera.json"),
    "camera.json: not readable as JSON": cut("camera.json"),
    "camera.json: cameraMatrix: expected 9": edit("camera.json", lambda c: c.pop("cameraMatrix")),
    "camera.json: Nu": edit("camera.json", lambda c: c.update(Nu="wide")),
    "focal lengths and image size": edit("camera.json", lambda c: c["cameraMatrix"][0].insert(0, 0)
                                         or c["cameraMatrix"][0].pop(1)),
    "camera without distortion": edit("camera.json", lambda c: c.update(distCoeffs=[0.1, 0])),
    "camera.json: distCoeffs": edit("camera.json", lambda c: c.update(distCoeffs=["a"])),
    "splits.csv: no such file": remove("splits.csv"),
    "splits.csv: line 1: expected NAME,train": write("splits.csv", "drum\n"),
    "splits.csv: line 2: expected NAME,train": write("splits.csv", "drum,test\ncubesat,val\n"),
    "line 2: expected the name of one more": write("splits.csv", "drum,test\ndrum,test\n"),
    "line 1: expected the name of one more": write("splits.csv", "../drum,test\n"),
    "no satellite of split test": write("splits.csv", "cubesat,train\n"),
    "drum: no such folder, but splits.csv": remove("drum"),
    "labels.json: no such file": remove(SAT + "labels.json"),
    "labels.json: expected a JSON list": write(SAT + "labels.json", "{}"),
    "entry 1: filename": edit(SAT + "labels.json", lambda c: c[1].update(filename="../../x")),
    "entry 1: q_vbs2tango_true: expected 4": edit(
        SAT + "labels.json", lambda c: c[1].update(q_vbs2tango_true=[1, 0, 0])
    ),
    "q_vbs2tango_true: expected a unit quaternion": edit(
        SAT + "labels.json", lambda c: c[1].update(q_vbs2tango_true=[0, 0, 0, 0])
    ),
    "entry 1: r_Vo2To_vbs_true": edit(
        SAT + "labels.json", lambda c: c[1].pop("r_Vo2To_vbs_true")
    ),
    "entry 0: r_Vo2To_vbs_true: expected 3 finite": edit(
        SAT + "labels.json", lambda c: c[0].update(r_Vo2To_vbs_true=[10**400, 0, 0])
    ),
    "model_normalized.obj: no such file": remove(SAT + "models/model_normalized.obj"),
    "images/img000002.jpg: expected an image": remove(SAT + f"images/{IMAGE}.jpg"),
    "images/img000002.jpg: 5 x 4 pixels": paint(
        SAT + f"images/{IMAGE}.jpg", np.zeros((4, 5), np.uint8)
    ),
    "masks/img000002.png: expected an image": cut(SAT + f"masks/{IMAGE}.png"),
    "masks/img000002.png: 5 x 4 pixels": paint(
        SAT + f"masks/{IMAGE}.png", np.zeros((4, 5), np.uint8)
    ),
    "no such map; make them by: crisp data maps": remove(SAT + "depths"),
    "nocs/img000002.png: expected an image": remove(SAT + f"nocs/{IMAGE}.png"),
    "nocs/img000002.png: expected 3 channels of 16": paint(
        SAT + f"nocs/{IMAGE}.png", np.zeros((SIZE, SIZE, 3), np.uint8)
    ),
    "depths/img000002.png: expected one channel of 16": paint(
        SAT + f"depths/{IMAGE}.png", np.zeros((SIZE, SIZE), np.uint8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", FLAWS)
def test_every_flaw_is_named_with_its_file(folder: Path, tmp_path: Path, message: str) -> None:
    shutil.copytree(folder, tmp_path / "data")
    FLAWS[message](tmp_path / "data")
    with pytest.raises(DatasetError, match=message) as refusal:
        list(Spe3rDataset(tmp_path / "data").frames())
    assert str(tmp_path) in str(refusal.value)


def test_a_mesh_that_is_none_and_one_out_of_range_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    remove(SAT + "depths")(tmp_path / "data")
    write(SAT + "models/model_normalized.obj", "v 0 0 nan\nf 1 1 1\n")(tmp_path / "data")
    with pytest.raises(MeshError, match="drum/models/model_normalized.obj"):
        write_maps(Spe3rDataset(tmp_path / "data"))
    large = satellite_mesh("drum").apply_scale(3.0)
    large.export(tmp_path / "data" / SAT / "models/model_normalized.obj")
    with pytest.raises(DatasetError, match="within half a unit"):
        write_maps(Spe3rDataset(tmp_path / "data"))


def test_an_unknown_split_and_a_missing_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="split val: expected one of train, validation"):
        Spe3rDataset(folder, "val")
    with pytest.raises(DatasetError, match="absent: no such folder; expected splits.csv"):
        Spe3rDataset(tmp_path / "absent")


def test_maps_that_are_read_are_those_that_opencv_reads(folder: Path) -> None:
    """The layout of the authors' code: 16 bits, BGR in the file, a half added."""
    raw = cv2.imread(str(folder / SAT / f"nocs/{IMAGE}.png"), cv2.IMREAD_UNCHANGED)
    frame = Spe3rDataset(folder).frame(Spe3rImage("drum", 1))
    seen = frame.depth > 0
    np.testing.assert_allclose(
        raw[..., ::-1][seen] / 65536 - 0.5, frame.coordinates[seen], atol=1e-6
    )
