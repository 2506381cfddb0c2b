import dataclasses
import threading
import time

import pytest
import torch
from adaptation_samples import CHECKPOINT, scene, shipped_model, small_reference

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.samples import samples_of
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.adaptation.self_training_worker import SelfTrainingWorker, WorkerSettings
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.observation.crop_channels import quantise_crops
from crisp_ros.pipeline import Estimator, EstimatorSettings

LEARNING = SelfTrainingSettings(
    learner=LearnerSettings(pnc_scale=1e3, code_scale=0.05), steps_per_candidate=2
)
SETTINGS = WorkerSettings(LEARNING, max_duty=1.0)


@pytest.fixture(scope="module")
def estimator():
    return Estimator(load_model(CHECKPOINT), EstimatorSettings(corrector=None, visibility=None))


def certifying(trace):
    """The same trace with all objects certified."""
    return trace._replace(solutions=tuple(map(_certified, trace.solutions)))


def _certified(solution):
    verification = solution.verification
    certificate = verification.certificate
    certificate = certificate._replace(certified=torch.ones_like(certificate.certified))
    return solution._replace(verification=verification._replace(certificate=certificate))


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def keys(trace):
    return {o.label: str(o.label) for o in trace.estimate.objects}


def test_samples_of_a_trace_say_what_the_estimator_said(estimator):
    trace = estimator.trace(scene())
    (solution,) = trace.solutions
    kept = samples_of(trace.solutions, {1: "a", 3: "b"})
    assert [s.key for s in kept] == ["a", "b"]
    pnc = solution.correction.pnc[2]
    for point, z in zip(kept[1].points, kept[1].z, strict=True):
        row = (solution.observations.points[2] - point).norm(dim=-1).argmin()
        torch.testing.assert_close(z, pnc[row], atol=1e-5, rtol=1e-5)
    assert torch.equal(kept[1].code, solution.correction.shapes.codes[2])
    assert torch.equal(kept[1].crop, quantise_crops(solution.observations.crops)[2])
    assert kept[1].grid.abs().max() <= 1.0


def test_a_worker_learns_and_the_next_frame_has_the_new_version(estimator):
    worker = SelfTrainingWorker(estimator, small_reference(), SETTINGS)
    before, trace = estimator.model_version, certifying(estimator.trace(scene()))
    worker.start()
    worker.start()  # the second time nothing happens
    try:
        for _ in range(3):
            worker.offer(trace, keys(trace))
            time.sleep(0.01)
        until(lambda: worker.status.swaps + worker.status.refused >= 1)
        status = worker.status
        assert worker.error == "" and status.steps >= 2 and status.nbytes > 0
        if status.swaps:
            after = estimator.trace(scene()).estimate
            assert after.model_version != before and "+" in after.model_version
    finally:
        worker.stop()
    assert not any(t.name == "self-training" for t in threading.enumerate())


def test_a_frame_is_estimated_with_one_set_of_weights(estimator):
    """Weights are published all the time while frames are estimated: none mixes two sets."""
    frame, heads = scene(), ("pnc_head.", "shape_head.")
    state = estimator.model.network.state_dict()
    mine = {k: v.clone() for k, v in state.items() if k.startswith(heads)}
    doubled = {k: 1.5 * v for k, v in mine.items()}
    expected = {}
    for version, weights in (("a", mine), ("b", doubled)):
        estimator.adopt(weights, version)
        solution = estimator.trace(frame).solutions[0]
        expected[version] = (solution.maps.clone(), solution.codes.clone())
    assert not torch.allclose(expected["a"][0], expected["b"][0])
    stop = threading.Event()

    def publish():
        while not stop.is_set():
            estimator.adopt(mine, "a")
            time.sleep(0.001)
            estimator.adopt(doubled, "b")
            time.sleep(0.001)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(8):
            trace = estimator.trace(frame)
            maps, codes = expected[trace.estimate.model_version]
            torch.testing.assert_close(trace.solutions[0].maps, maps)
            torch.testing.assert_close(trace.solutions[0].codes, codes)
    finally:
        stop.set()
        thread.join()
        estimator.adopt(mine, "as before")
        estimator.trace(frame)


def test_the_share_of_time_is_limited(estimator):
    worker = SelfTrainingWorker(estimator, small_reference(), WorkerSettings(LEARNING, 0.1))
    worked = []
    real = worker._work

    def timed():
        start = time.perf_counter()
        result = real()
        worked.append(time.perf_counter() - start)
        return result

    worker._work = timed
    trace = certifying(estimator.trace(scene()))
    start = time.perf_counter()
    worker.start()
    while time.perf_counter() - start < 3.0:
        worker.offer(trace, keys(trace))
        time.sleep(0.05)
    worker.stop()
    # The last piece may lie at the very end, with its rest cut off by the stop.
    assert sum(worked[:-1]) <= 0.12 * (time.perf_counter() - start)


def test_what_waits_is_bounded_and_an_estimation_goes_first(estimator):
    worker = SelfTrainingWorker(estimator, small_reference(), SETTINGS)
    trace = estimator.trace(scene())
    for _ in range(100):
        worker.offer(trace, keys(trace))
    assert len(worker._pending) <= 4
    with worker.estimating():
        worker.start()
        time.sleep(0.3)
        assert worker.status.held_back == worker.status.buffered == 0 and len(worker._pending) == 4
    until(lambda: not worker._pending)
    worker.stop()


def test_an_error_ends_the_learning_alone(estimator, monkeypatch):
    worker = SelfTrainingWorker(estimator, small_reference(), SETTINGS)
    monkeypatch.setattr(worker._trainer, "observe", lambda *_: 1 / 0)
    trace = estimator.trace(scene())
    worker.start()
    worker.offer(trace, keys(trace))
    until(lambda: worker.error != "")
    assert "ZeroDivisionError" in worker.error
    worker.stop()
    estimator.trace(scene())
    monkeypatch.undo()
    worker.start()
    assert worker.error == "", "it is of the thread that ended"
    worker.offer(certifying(trace), keys(trace))
    until(lambda: worker.status.buffered > 0)
    worker.stop()
    assert worker.error == ""


def test_learning_has_its_own_cpu_threads_at_every_start(estimator, monkeypatch):
    worker = SelfTrainingWorker(
        estimator, small_reference(), dataclasses.replace(SETTINGS, threads=3)
    )
    counts = []
    monkeypatch.setattr(
        worker._trainer, "observe", lambda *_: counts.append(torch.get_num_threads())
    )
    trace = estimator.trace(scene())

    def looked_at() -> None:
        before = len(counts)
        worker.offer(trace, keys(trace))
        until(lambda: len(counts) > before)

    for _ in range(2):
        set_own_cpu_threads(2)
        worker.start()
        looked_at()
        set_own_cpu_threads(2)
        looked_at()
        assert torch.get_num_threads() == 2
        worker.stop()
    set_own_cpu_threads(1)
    assert counts == [3] * 4


def test_rollback_and_save_are_answered_while_it_works(estimator, tmp_path):
    worker = SelfTrainingWorker(estimator, small_reference(), SETTINGS)
    assert worker.roll_back() == (False, worker.status.version)
    path, version = worker.save(lambda version: tmp_path / f"{version}.safetensors")
    assert version == worker.status.version and path == tmp_path / f"{version}.safetensors"
    assert path.is_file()
    assert worker.restore_samples(tmp_path / f"{version}.samples.safetensors") == ""


def test_a_model_without_library_is_refused():
    model = shipped_model()
    bare = Estimator(Model(load_model(CHECKPOINT).network, None, model.header))
    with pytest.raises(ValueError, match="needs a model with a shape library"):
        SelfTrainingWorker(bare, small_reference())
