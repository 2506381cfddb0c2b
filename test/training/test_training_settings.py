import math

import pytest

from crisp_ros.training.training_settings import TrainingSettings, learning_rate


def rates(total: int, **changes) -> list[float]:
    settings = TrainingSettings(steps=total, **{"learning_rate": 2.0, "warmup": 0, **changes})
    return [learning_rate(step, total, settings) for step in range(total)]


def test_the_rate_rises_and_then_stays_or_follows_a_cosine():
    assert rates(6, schedule="constant", warmup=4) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = rates(101, schedule="cosine", warmup=1, final_rate=0.1)
    assert cosine[1] == 2.0 and cosine[51] == pytest.approx(2.0 * 0.55)
    assert cosine[-1] == pytest.approx(0.2, abs=1e-3)


def test_cosines_restart_after_periods_that_grow_by_the_factor():
    restarts = rates(75, schedule="restarts", restart_every=10, restart_factor=2.0)
    starts = [i for i in range(1, 75) if restarts[i] > restarts[i - 1]]
    assert starts == [10, 30, 70]
    for start, length in ((0, 10), (10, 20), (30, 40)):
        for k in range(length):
            expected = 2.0 * 0.5 * (1 + math.cos(math.pi * k / length))
            assert restarts[start + k] == pytest.approx(expected)
    plain = rates(35, schedule="restarts", restart_every=10)
    assert [i for i in range(1, 35) if plain[i] > plain[i - 1]] == [10, 20, 30]


def test_epochs_become_steps_of_whole_batches():
    assert TrainingSettings(epochs=3, batch=16).total_steps(100) == 18
    assert TrainingSettings(epochs=3, batch=16).total_steps(5) == 3
    assert TrainingSettings(steps=7).total_steps(100) == 7
