"""Self-training that is killed while it writes, and that runs for very long."""

import contextlib
import ctypes
import dataclasses
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from adaptation_samples import CPU, samples, shipped_model, small_reference

from crisp_ros.adaptation.buffer import load_samples, samples_path
from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.reference_set import load_reference, original_of, save_reference
from crisp_ros.adaptation.self_trainer import SelfTrainer, SelfTrainingSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import model_version

GENTLE = LearnerSettings(pnc_scale=1e3, code_scale=0.05, averaging=0.9)
SETTINGS = SelfTrainingSettings(learner=GENTLE, steps_per_candidate=3, held_back_every=4)
VERSION = model_version(shipped_model())


def swap_and_save_for_ever(tested, path, number):
    """Swap and save weights for ever; each set is constant, so that mixtures are visible."""
    original = {name: value.clone() for name, value in tested.weights.items()}
    tested._history.number = number
    while True:
        number += 1
        tested._use(tested._history.swap({k: v + float(number) for k, v in original.items()}))
        tested.observe(samples([number % 100]), tested.status.version)
        tested.save(path)


@pytest.mark.slow
def test_twenty_kills_during_saves_leave_files_that_load(tmp_path):
    path, kept = tmp_path / "learned.safetensors", tmp_path / "set"
    reference = small_reference()
    save_reference(kept, reference)
    original = dict(shipped_model().network.named_parameters())
    rng, versions = random.Random(0), set()
    tested = SelfTrainer(shipped_model(), reference, SETTINGS, CPU, lambda *_: None)
    for kill in range(20):
        before = path.stat().st_mtime_ns if path.exists() else 0
        child = os.fork()
        if child == 0:
            try:
                swap_and_save_for_ever(tested, path, 100 * kill)
            finally:
                os._exit(1)
        while not path.exists() or path.stat().st_mtime_ns == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.0))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        learned = load_model(path)
        load_reference(kept, learned)
        offsets = {
            round((value - original[name]).mean().item(), 2)
            for name, value in learned.network.named_parameters()
            if name.startswith(("pnc_head.", "shape_head."))
        }
        assert len(offsets) == 1, "weights of two versions in one file"
        assert f"+{offsets.pop():.0f}" in learned.header["version"]
        versions.add(learned.header["version"])
        if samples_path(path).exists():
            load_samples(samples_path(path), original_of(learned))
    assert len(versions) == 20
    tested.save(path)  # tidies up what the killed ones left
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "learned.safetensors",
        "learned.samples.safetensors",
        "set",
    ]


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def give_back_what_is_free():
    """Have glibc give freed memory back to the system; other systems' allocators keep theirs."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def kept_mb(trainer):
    """Samples with their features, 1 MB each, and heads, 7 MB for each version that is kept."""
    history = trainer._history
    assert len(history._earlier) <= 3
    heads = {id(v.weights): v.weights for v in (*history._earlier, history.current)}
    nbytes = sum(part.nbytes for weights in heads.values() for part in weights.values())
    return (trainer.status.nbytes + nbytes) / 1e6


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_ten_hours_of_frames_do_not_grow(tmp_path):
    """36,000 frames, one a second for ten hours, of objects that come and go; learning at the duty
    that the node allows is what the credit limits, so every frame brings at most one step here.

    What `kept_mb` counts is bounded, and when it fills up is a matter of chance: it is no growth.
    """
    settings = dataclasses.replace(
        SETTINGS,
        buffer=20,
        held_back=8,
        replay=0.05,
        steps_per_candidate=40,
        learner=dataclasses.replace(GENTLE, batch=2),
    )
    published = []
    tested = SelfTrainer(
        shipped_model(), small_reference(), settings, CPU, lambda _, v: published.append(v)
    )
    pool, resident, sizes, start = samples(range(100)), [], [], time.monotonic()
    for frame in range(36_000):
        seen = [
            dataclasses.replace(pool[(7 * frame + i) % 100], key=str((frame // 50 + i) % 5000))
            for i in range(3)
        ]
        tested.observe(seen, tested.status.version)
        while tested.work():
            pass
        if frame % 3000 == 2999:
            tested.save(tmp_path / "learned.safetensors")
            give_back_what_is_free()
            resident.append(resident_mb())
            sizes.append(resident[-1] - kept_mb(tested))
    status = tested.status
    report = {
        "frames": 36_000,
        "resident_mb": {
            "every_3000_frames": [round(size) for size in resident],
            "without_what_is_kept": [round(size) for size in sizes],
        },
        "samples_mb": round(status.nbytes / 1e6, 1),
        **{name: getattr(status, name) for name in ("steps", "swaps", "refused", "rollbacks")},
        "seconds": round(time.monotonic() - start, 1),
        **provenance("pytest -m soak test/adaptation/test_survival.py"),
    }
    print(json.dumps(report, indent=1))
    if "CRISP_SELF_TRAINING_SOAK_JSON" in os.environ:
        write_json(os.environ["CRISP_SELF_TRAINING_SOAK_JSON"], report)
    assert status.steps > 1000 and status.buffered <= 20 and status.held_back <= 8
    assert max(sizes[2:]) - sizes[1] < 40, sizes
    assert min(sizes[-4:]) - min(sizes[1:5]) < 15, sizes
    assert len(tested._counts) <= 1003 and status.nbytes < 40e6
    assert len(set(published)) == len(published)
    assert all(torch.isfinite(value).all() for value in tested.weights.values())
