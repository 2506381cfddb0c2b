"""Fixtures of the whole test run."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch
from known import Known, load_known


@pytest.fixture(scope="session")
def known() -> Known:
    """Return the small decoder of the eight analytic shapes."""
    return load_known()


@pytest.fixture(autouse=True, scope="session")
def _own_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the test run's own, which its processes share: shapes are tabulated once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Use one thread: the tensors of tests are small, and more threads only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_remains_of_others(request: pytest.FixtureRequest) -> None:
    """Free what earlier tests left before a test reads what is printed.

    A task that an executor of ROS dropped prints its error when it is freed.
    """
    if "capsys" in request.fixturenames:
        gc.collect()
