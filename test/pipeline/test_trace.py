import dataclasses

import numpy as np
import torch
from pipeline.three_objects import SETTINGS, estimator

from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.pipeline import Trace, solver


def test_the_rows_of_a_trace_are_its_estimates(scene):
    """Every object a batch of its own: their hypotheses are joined in the order of the labels."""
    single = estimator(settings=dataclasses.replace(SETTINGS, network_batch=1)).trace(scene.frame)
    assert len(single.solutions) == 3
    labels = [e.label for e in single.estimate.objects]
    assert single.hypotheses.labels.tolist() == labels == [4, 7, 11]
    T = np.linalg.inv(single.hypotheses.T_object_camera.double())
    assert np.allclose(T, [e.T_camera_object for e in single.estimate.objects], atol=1e-5)
    unknown = [e.unknown for e in single.estimate.objects]
    assert single.known.held.tolist() == [not u for u in unknown]
    together = estimator().trace(scene.frame)
    assert len(together.solutions) == 1
    points = (t.hypotheses.correspondences.points for t in (single, together))
    torch.testing.assert_close(*points)


def test_the_images_of_a_trace_are_those_of_the_frame(scene):
    images = estimator().trace(scene.frame).images
    assert images.camera == scene.frame.camera
    assert torch.equal(images.depth, torch.from_numpy(scene.frame.depth))
    assert torch.equal(images.labels, torch.from_numpy(scene.frame.labels))


def test_without_the_test_of_known_shapes_nothing_is_known(scene):
    settings = dataclasses.replace(SETTINGS, known_shapes=None)
    found = estimator(settings=settings).trace(scene.frame)
    assert found.known is None
    assert Trace(found.estimate, ()).known is None


def test_the_network_alone_runs_on_several_threads(scene, monkeypatch):
    """Small operations wait for one another on cores that other processes use."""
    used = estimator()
    seen = {"network": set(), "registration": set()}

    def counting(name, function):
        def count(*args):
            seen[name].add(torch.get_num_threads())
            return function(*args)

        return count

    network = used.model.network
    monkeypatch.setattr(network, "forward", counting("network", network.forward))
    monkeypatch.setattr(solver, "register", counting("registration", solver.register))
    before = torch.get_num_threads()
    set_own_cpu_threads(3)
    try:
        used.trace(scene.frame)
        assert seen == {"network": {3}, "registration": {1}}
        assert torch.get_num_threads() == 3
    finally:
        set_own_cpu_threads(before)
