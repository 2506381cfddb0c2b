import dataclasses
import math

import pytest
import torch
from adaptation_samples import CHECKPOINT, CPU, shipped_model, shipped_reference, small_reference

from crisp_ros.adaptation.guard import Guard
from crisp_ros.adaptation.learner import Learner
from crisp_ros.adaptation.reference_set import (
    LARGEST_FILE,
    Limits,
    ReferenceSetError,
    load_reference,
    reference_path,
    save_reference,
)
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.checkpoint import Model


def test_the_shipped_reference_set_belongs_to_the_shipped_model():
    """Where this fails the model was replaced: run `crisp render reference` again."""
    reference = shipped_reference()
    assert reference.model == shipped_model().header["sha256"]
    assert reference_path(CHECKPOINT).stat().st_size <= LARGEST_FILE
    shapes = len(shipped_model().library)
    counts = torch.bincount(reference.shape, minlength=shapes)
    assert counts.min() == counts.max() >= 4


def test_its_truth_is_true():
    """Depth points at the true pose lie on the true shape, to the sensor's noise."""
    reference, model = shipped_reference(), shipped_model()
    z = transform(reference.T_object_camera, reference.points)
    distance = model.network.decoder.sdf(z, model.library.codes[reference.shape]).abs()
    assert distance.median() < 0.002 and distance.quantile(0.9) < 0.008


def test_a_small_set_measures_what_the_file_says():
    reference = small_reference()
    accuracy = Guard(shipped_model(), reference, CPU).accuracy(Learner(shipped_model().network))
    assert accuracy == reference.original
    assert accuracy.pose > 0.2 and accuracy.shape > 0.8


def test_saved_and_restored_without_loss(tmp_path):
    reference = dataclasses.replace(small_reference(), limits=Limits(accuracy_loss=0.02))
    save_reference(tmp_path / "set", reference)
    restored = load_reference(tmp_path / "set", shipped_model())
    assert restored.limits == reference.limits and restored.original == reference.original
    for name in ("crops", "grid", "points", "T_object_camera", "shape"):
        assert torch.equal(getattr(restored, name), getattr(reference, name)), name


def test_a_set_for_another_model_is_refused_but_not_a_descendant(tmp_path):
    save_reference(tmp_path / "set", small_reference())
    model = shipped_model()
    other = Model(model.network, model.library, {"sha256": "f" * 64})
    with pytest.raises(ReferenceSetError, match="was made for model .* `crisp render reference`"):
        load_reference(tmp_path / "set", other)
    header = {"sha256": "f" * 64, "self_training": {"original": model.header["sha256"]}}
    load_reference(tmp_path / "set", Model(model.network, model.library, header))


def test_damaged_and_missing_sets_are_reported(tmp_path):
    with pytest.raises(ReferenceSetError, match="crisp render reference"):
        load_reference(tmp_path / "none", shipped_model())
    save_reference(tmp_path / "set", small_reference())
    contents = bytearray((tmp_path / "set").read_bytes())
    contents[-5] ^= 255
    (tmp_path / "set").write_bytes(contents)
    with pytest.raises(ReferenceSetError, match="damaged"):
        load_reference(tmp_path / "set", shipped_model())


def test_a_file_beyond_3_mb_is_not_written(tmp_path):
    reference = small_reference()
    noise = torch.randint(0, 256, (130, 3, 96, 96), dtype=torch.uint8)
    large = dataclasses.replace(reference, crops=noise)
    with pytest.raises(ReferenceSetError, match="more than 3 MB"):
        save_reference(tmp_path / "set", large)
    assert not (tmp_path / "set").exists()
    assert not math.isnan(reference.original.pose)


def test_geometry_is_saved_and_restored_without_loss(tmp_path):
    reference = small_reference()
    colour = reference.crops[:, :3].to(torch.int16)
    geometry = torch.randint(-300, 301, (len(colour), 5, *colour.shape[2:]), dtype=torch.int16)
    reference = dataclasses.replace(reference, crops=torch.cat([colour, geometry], dim=1))
    save_reference(tmp_path / "set", reference)
    restored = load_reference(tmp_path / "set", shipped_model())
    assert torch.equal(restored.crops, reference.crops)
