"""BOP data sets: units, round trips, symmetries, real images, and errors that name the file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from damage import cut, edit, paint, remove, write
from tiny_bop import (
    HEIGHT,
    INTRINSICS,
    WIDTH,
    pose,
    primitives,
    tiny_frames,
    write_tiny_bop,
)

from crisp_ros.data.bop import BopDataset, BopImage, DatasetError
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.data.meshes import signed_distance, surface_samples

YCBV = Path(__file__).resolve().parents[3] / "shared/data/bop/ycbv"
needs_ycbv = pytest.mark.skipif(not YCBV.is_dir(), reason="YCB-Video is not on this machine")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BopDataset:
    return BopDataset(write_tiny_bop(tmp_path_factory.mktemp("tiny")))


def test_frames_survive_the_round_trip(tiny: BopDataset) -> None:
    assert tiny.images == (BopImage(1, 3), BopImage(1, 12), BopImage(7, 0))
    for read, written in zip(tiny.frames(), tiny_frames(), strict=True):
        assert (read.scene_id, read.image_id) == (written.scene_id, written.image_id)
        assert np.array_equal(read.rgb, written.rgb) and read.rgb.dtype == np.uint8
        assert np.array_equal(read.labels, written.labels) and read.labels.dtype == np.int32
        np.testing.assert_allclose(read.depth, written.depth, atol=0.5e-4 + 1e-7)
        assert read.depth.dtype == np.float32
        np.testing.assert_allclose(read.intrinsics, written.intrinsics)
        for a, b in zip(read.instances, written.instances, strict=True):
            assert (a.obj_id, a.label, a.visible_px) == (b.obj_id, b.label, b.visible_px)
            assert a.visible_share == pytest.approx(b.visible_share)
            np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, atol=1e-12)


def test_files_hold_millimetres(tiny: BopDataset) -> None:
    entry = json.loads((tiny.folder / "test/000001/scene_gt.json").read_text())["3"][0]
    assert entry["cam_t_m2c"] == pytest.approx([-100, 0, 600])
    info = json.loads((tiny.folder / "models/models_info.json").read_text())["1"]
    assert info["size_x"] == pytest.approx(100)
    assert info["diameter"] == pytest.approx(np.linalg.norm([100, 60, 40]))
    raw = cv2.imread(str(tiny.folder / "test/000001/depth/000003.png"), cv2.IMREAD_UNCHANGED)
    assert raw.dtype == np.uint16 and raw.max() == 15000  # the wall at 1.5 m


def test_depth_scale_is_obeyed(tmp_path: Path) -> None:
    write_models(tmp_path, primitives())
    write_frames(tmp_path, tiny_frames()[:1], depth_scale_mm=1.0)
    depth = next(BopDataset(tmp_path).frames()).depth
    np.testing.assert_allclose(depth, tiny_frames()[0].depth, atol=0.5e-3 + 1e-6)


def test_models_are_in_metres(tiny: BopDataset) -> None:
    for obj_id, mesh in primitives().items():
        model = tiny.models[obj_id]
        np.testing.assert_allclose(model.lower, mesh.bounds[0], atol=1e-9)
        np.testing.assert_allclose(model.upper, mesh.bounds[1], atol=1e-9)
        np.testing.assert_allclose(model.mesh.extents, mesh.extents, atol=1e-6)
    assert tiny.models[2].name == "can"


def test_a_texture_is_written_next_to_its_model(tmp_path: Path) -> None:
    from PIL import Image

    box = primitives()[1]
    uv = np.random.default_rng(0).random((len(box.vertices), 2))
    image = Image.new("RGB", (8, 8), (200, 30, 60))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, image=image)
    write_models(tmp_path, {4: box})
    write_frames(tmp_path, tiny_frames()[:1])
    visual = BopDataset(tmp_path).models[4].mesh.visual
    np.testing.assert_allclose(visual.uv, uv, atol=1e-6)
    assert visual.material.image.getpixel((3, 3))[:3] == (200, 30, 60)


def test_symmetries_map_the_surface_onto_itself(tiny: BopDataset) -> None:
    rng = np.random.default_rng(0)
    for obj_id, count in ((1, 2), (2, 2 * 30), (5, 1)):
        group = tiny.models[obj_id].symmetries(steps=30)
        assert group.shape == (count, 4, 4)
        np.testing.assert_array_equal(group[0], np.eye(4))
        mesh = primitives()[obj_id]
        points = surface_samples(mesh, 50, rng).points
        for motion in group:
            moved = trimesh.transform_points(points, motion)
            assert np.abs(signed_distance(mesh, moved)).max() < 1e-4
    axes = {tuple(np.round(motion[:3, 0], 6) + 0.0) for motion in tiny.models[2].symmetries(30)}
    assert len(axes) == 30  # the x axis visits thirty places


def test_axis_offsets_and_lengths_are_read_in_millimetres(tmp_path: Path) -> None:
    write_models(
        tmp_path,
        primitives(),
        {
            1: {"symmetries_discrete": [[-1, 0, 0, 40, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]},
            2: {"symmetries_continuous": [{"axis": [0, 0, 2], "offset": [10, 0, 0]}]},
        },
    )
    write_frames(tmp_path, tiny_frames()[:1])
    models = BopDataset(tmp_path).models
    np.testing.assert_allclose(models[1].symmetries()[1, :3, 3], (0.04, 0, 0))
    half_rotation = models[2].symmetries(steps=2)[1]
    np.testing.assert_allclose(half_rotation[:3, 3], (0.02, 0, 0), atol=1e-12)
    np.testing.assert_allclose(half_rotation[:3, :3], np.diag([-1, -1, 1]), atol=1e-12)


def test_frames_added_later_join_the_scene(tmp_path: Path) -> None:
    write_models(tmp_path, primitives())
    for frame in tiny_frames():
        write_frames(tmp_path, [frame])
    assert BopDataset(tmp_path).images == (BopImage(1, 3), BopImage(1, 12), BopImage(7, 0))


def test_only_listed_targets_are_read(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    targets = [{"scene_id": 1, "im_id": 12, "obj_id": 1, "inst_count": 1}]
    (tmp_path / "test_targets_bop19.json").write_text(json.dumps(targets))
    dataset = BopDataset(tmp_path)
    assert dataset.images == (BopImage(1, 12),)
    assert dataset.targets == {BopImage(1, 12): {1: 1}}
    assert dataset.is_target(BopImage(1, 12), 1) and not dataset.is_target(BopImage(1, 12), 2)
    other = tmp_path / "mine.json"
    other.write_text(json.dumps([dict(targets[0], im_id=3)]))
    assert BopDataset(tmp_path, targets=other).images == (BopImage(1, 3),)


def test_a_subset_of_the_test_images_is_a_subset_of_the_targets(tmp_path: Path) -> None:
    """A partial download can be evaluated."""
    write_tiny_bop(tmp_path)
    entry = {"obj_id": 1, "inst_count": 1}
    targets = [{"scene_id": s, "im_id": 0, **entry} for s in (7, 48)]
    (tmp_path / "test_targets_bop19.json").write_text(json.dumps(targets))
    assert BopDataset(tmp_path).images == (BopImage(7, 0),)


@pytest.mark.parametrize("split", ["train_real", "train_pbr", "test_primesense"])
def test_every_split_is_read(tmp_path: Path, split: str) -> None:
    """Training splits are not limited by the targets of the test; sensors' test splits are."""
    write_models(tmp_path, primitives())
    write_frames(tmp_path, tiny_frames(), split)
    targets = [{"scene_id": 1, "im_id": 12, "obj_id": 1, "inst_count": 1}]
    (tmp_path / "test_targets_bop19.json").write_text(json.dumps(targets))
    count = 1 if split.startswith("test") else 3
    assert len(list(BopDataset(tmp_path, split).frames())) == count


def test_photorealistic_training_images_have_a_camera_each(tmp_path: Path) -> None:
    """As in train_pbr: JPEG colour, PNG depth, cameras that differ, the camera's place stated."""
    write_models(tmp_path, primitives())
    T_world_camera = pose((10, 20, 30), (0.1, -0.2, 0.3))
    frames = [
        replace(frame, intrinsics=frame.intrinsics * [[1 + i], [1 + i], [1]])
        for i, frame in enumerate(tiny_frames())
    ]
    frames[1] = replace(frames[1], T_world_camera=T_world_camera)
    write_frames(tmp_path, frames, "train_pbr", depth_scale_mm=0.5)
    for path in (tmp_path / "train_pbr").glob("*/rgb/*.png"):
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        path.unlink()
    read = list(BopDataset(tmp_path, "train_pbr").frames())
    assert [frame.intrinsics[0, 0] for frame in read] == [200.0, 400.0, 600.0]
    assert read[0].T_world_camera is None
    np.testing.assert_allclose(read[1].T_world_camera, T_world_camera, atol=1e-12)
    np.testing.assert_allclose(read[2].depth, frames[2].depth, atol=0.25e-3 + 1e-6)
    assert np.abs(read[0].rgb.astype(int) - frames[0].rgb).mean() < 10


def test_grey_images_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    scene = tmp_path / "test/000007"
    (scene / "rgb").rename(scene / "gray")
    path = scene / "gray/000000.png"
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    rgb = BopDataset(tmp_path).frame(BopImage(7, 0)).rgb
    assert rgb.shape == (HEIGHT, WIDTH, 3) and np.array_equal(rgb[..., 0], rgb[..., 2])


def test_rounded_rotations_are_made_orthonormal(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    path = tmp_path / "test/000001/scene_gt.json"
    content = json.loads(path.read_text())
    exact = np.reshape(content["3"][0]["cam_R_m2c"], (3, 3))
    content["3"][0]["cam_R_m2c"] = np.round(exact, 3).ravel().tolist()
    path.write_text(json.dumps(content))
    read = next(BopDataset(tmp_path).frames()).instances[0].T_camera_object[:3, :3]
    np.testing.assert_allclose(read.T @ read, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(read, exact, atol=1e-3)


def test_depth_beyond_sixteen_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="choose larger steps"):
        write_frames(tmp_path, tiny_frames()[:1], depth_scale_mm=0.01)


SCENE = "test/000001/"
NOT_A_ROTATION = [1, 0, 0, 0, 1, 0, 0, 0, -1]
FLAWS = {
    "models_info.json: no such file": remove("models/models_info.json"),
    "obj_000002.ply: no such file": remove("models/obj_000002.ply"),
    "model 1: diameter": edit("models/models_info.json", lambda c: c["1"].pop("diameter")),
    "model 1: symmetries|model 1: 0": edit(
        "models/models_info.json", lambda c: c["1"].update(symmetries_discrete=[[1, 2]])
    ),
    "model 1: symmetries_discrete: expected a list": edit(
        "models/models_info.json", lambda c: c["1"].update(symmetries_discrete=3)
    ),
    "model 2: symmetries_continuous: expected a list": edit(
        "models/models_info.json", lambda c: c["2"].update(symmetries_continuous="z")
    ),
    "axis of length zero": edit(
        "models/models_info.json",
        lambda c: c["2"]["symmetries_continuous"][0].update(axis=[0, 0, 0]),
    ),
    "scene_gt.json: no such file": remove(SCENE + "scene_gt.json"),
    "scene_gt.json: not readable as JSON": write(SCENE + "scene_gt.json", "{"),
    "expected a JSON dict": write(SCENE + "scene_gt.json", "[]"),
    "image 3: expected a list": edit(SCENE + "scene_gt.json", lambda c: c.update({"3": {}})),
    "not readable as text": lambda f: (f / SCENE / "scene_gt.json").write_bytes(b"\xff\xfe"),
    "no model in it": write("models/models_info.json", "{}"),
    "model 1: expected sizes": edit(
        "models/models_info.json", lambda c: c["1"].update(diameter=-1)
    ),
    "image 3: cam_R_w2c: expected 9": edit(
        SCENE + "scene_camera.json", lambda c: c["3"].update(cam_R_w2c=[1], cam_t_w2c=[0, 0, 0])
    ),
    "visib_fract: expected a share": edit(
        SCENE + "scene_gt_info.json", lambda c: c["3"][0].update(visib_fract=1.5)
    ),
    "visib_fract: expected 1 finite": edit(
        SCENE + "scene_gt_info.json", lambda c: c["3"].__setitem__(0, None)
    ),
    "obj_id: expected a whole number": edit(
        SCENE + "scene_gt.json", lambda c: c["3"][0].update(obj_id=1.5)
    ),
    "rgb/000003.png: expected an image": cut(SCENE + "rgb/000003.png"),
    "targets_bop19.json: entry 0: inst_count: expected 1 or": write(
        "test_targets_bop19.json", '[{"scene_id": 1, "im_id": 3, "obj_id": 1, "inst_count": 0}]'
    ),
    "targets_bop19.json: entry 0: obj_id": write(
        "test_targets_bop19.json", '[{"scene_id": 1, "im_id": 3, "inst_count": 1}]'
    ),
    "targets_bop19.json: none of its images": write(
        "test_targets_bop19.json", '[{"scene_id": 9, "im_id": 3, "obj_id": 1, "inst_count": 1}]'
    ),
    "targets_bop19.json: no target": write("test_targets_bop19.json", "[]"),
    "image 3: expected a rotation": edit(
        SCENE + "scene_gt.json", lambda c: c["3"][0].update(cam_R_m2c=NOT_A_ROTATION)
    ),
    "image 3: cam_t_m2c: expected 3": edit(
        SCENE + "scene_gt.json", lambda c: c["3"][0].update(cam_t_m2c=[0, 0])
    ),
    "image 3: obj_id": edit(SCENE + "scene_gt.json", lambda c: c["3"][0].pop("obj_id")),
    "image 3: depth_scale: expected 1 finite": edit(
        SCENE + "scene_camera.json", lambda c: c["3"].update(depth_scale=10**400)
    ),
    "image ids as keys, got '²'": edit(SCENE + "scene_gt.json", lambda c: c.update({"²": []})),
    "model ²: expected object ids": edit(
        "models/models_info.json", lambda c: c.update({"²": c.pop("1")})
    ),
    "model 1: name: expected a text": edit(
        "models/models_info.json", lambda c: c["1"].update(name=["box"])
    ),
    "image ids as keys, got 'first'": edit(SCENE + "scene_gt.json", lambda c: c.update(first=[])),
    "no camera for image 12": edit(SCENE + "scene_camera.json", lambda c: c.pop("12")),
    "image 3: cam_K: expected 9": edit(
        SCENE + "scene_camera.json", lambda c: c["3"].update(cam_K=[1, 2, 3])
    ),
    "depth_scale must be positive": edit(
        SCENE + "scene_camera.json", lambda c: c["3"].update(depth_scale=0)
    ),
    "rgb/000003: no image": remove(SCENE + "rgb/000003.png"),
    "depth/000003: no image": remove(SCENE + "depth/000003.png"),
    "expected one channel of 16 bits": paint(
        SCENE + "depth/000003.png", np.zeros((HEIGHT, WIDTH), np.uint8)
    ),
    "depth/000003.png: 5 x 4 pixels": paint(
        SCENE + "depth/000003.png", np.zeros((4, 5), np.uint16)
    ),
    "mask_visib/000003_000001.png: expected an image": remove(
        SCENE + "mask_visib/000003_000001.png"
    ),
    "expected 3 entries": edit(SCENE + "scene_gt_info.json", lambda c: c["3"].pop()),
}


@pytest.mark.parametrize("message", FLAWS)
def test_every_flaw_is_named_with_its_file(tiny: BopDataset, tmp_path: Path, message: str) -> None:
    shutil.copytree(tiny.folder, tmp_path / "data")
    FLAWS[message](tmp_path / "data")
    with pytest.raises(DatasetError, match=message) as refusal:
        list(BopDataset(tmp_path / "data").frames())
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("present, message", [(None, "no such folder"), ("test", "no scene in it")])
def test_a_folder_without_data_is_refused(
    tmp_path: Path, present: str | None, message: str
) -> None:
    folder = tmp_path / "data"
    if present:
        write_models(folder, primitives())
        (folder / present).mkdir()
    with pytest.raises(DatasetError, match=message):
        BopDataset(folder)


def test_jpeg_images_are_read(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    path = tmp_path / SCENE / "rgb/000003.png"
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
    path.unlink()
    assert next(BopDataset(tmp_path).frames()).rgb.shape == (HEIGHT, WIDTH, 3)


@needs_ycbv
def test_real_depth_lies_on_the_models_at_their_poses() -> None:
    """Close the chain of units and frames: depth, mask, camera, pose and mesh agree."""
    dataset = BopDataset(YCBV)
    assert len(dataset.images) == 3 and len(dataset.models) == 21
    instances = 0
    for frame in dataset.frames():
        for instance in frame.instances:
            v, u = np.nonzero((frame.labels == instance.label) & (frame.depth > 0))
            pixels = np.stack([u, v, np.ones_like(u)], axis=1)
            points = frame.depth[v, u, None] * (pixels @ np.linalg.inv(frame.intrinsics).T)
            inverse = np.linalg.inv(instance.T_camera_object)
            points = trimesh.transform_points(points[::20], inverse)
            mesh = dataset.models[instance.obj_id].mesh
            assert np.median(np.abs(signed_distance(mesh, points))) < 0.003
            instances += 1
    assert instances == 13


def test_the_drawn_depth_is_exact(tiny: BopDataset) -> None:
    frame = tiny_frames()[0]
    for instance in frame.instances:
        v, u = np.nonzero(frame.labels == instance.label)
        pixels = np.stack([u, v, np.ones_like(u)], axis=1)
        points = frame.depth[v, u, None] * (pixels @ np.linalg.inv(INTRINSICS).T)
        points = trimesh.transform_points(points, np.linalg.inv(instance.T_camera_object))
        mesh = primitives()[instance.obj_id]
        assert np.abs(signed_distance(mesh, points)).max() < 1e-6
