"""CPU threads per thread, independent of the order in which threads start."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from crisp_ros.network.cpu_threads import multithreaded, set_own_cpu_threads, single_threaded

PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    set_own_cpu_threads(before)


def in_a_thread(act: Callable[[], int]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join(PATIENCE_S)
    return found[0]


def own(count: int) -> int:
    """The number of the calling thread after it computed something."""
    set_own_cpu_threads(count)
    torch.ones(8).sum()
    return torch.get_num_threads()


def test_what_other_threads_set_before_does_not_matter() -> None:
    assert in_a_thread(lambda: own(3)) == 3
    assert in_a_thread(lambda: own(2)) == 2
    assert own(4) == 4


def test_what_other_threads_set_later_does_not_matter() -> None:
    assert own(2) == 2
    assert in_a_thread(lambda: own(3)) == 3
    assert torch.get_num_threads() == 2


def test_zero_is_the_number_from_before_any_other_was_set() -> None:
    first = own(0)
    assert own(first + 1) == first + 1
    assert own(0) == first
    assert in_a_thread(lambda: own(0)) == first


def test_multithreaded_uses_the_threads_around_single_threaded() -> None:
    own(3)
    with single_threaded():
        assert torch.get_num_threads() == 1
        with multithreaded():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_threads_are_as_before_after_an_error() -> None:
    own(3)
    with pytest.raises(ValueError, match="inside"), single_threaded(), multithreaded():
        raise ValueError("inside")
    assert torch.get_num_threads() == 3


def test_multithreaded_alone_changes_nothing() -> None:
    own(2)
    with multithreaded():
        assert torch.get_num_threads() == 2
