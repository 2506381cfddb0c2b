"""Fixtures of the whole test run."""

from collections.abc import Iterator

import pytest
import torch
from known import Known, load_known


@pytest.fixture(scope="session")
def known() -> Known:
    """Return the small decoder of the eight analytic shapes."""
    return load_known()


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Use one thread: the tensors of tests are small, and more threads only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
