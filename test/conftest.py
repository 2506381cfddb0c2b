"""Settings of the whole test run."""

from collections.abc import Iterator

import pytest
import torch
from known import Known, load_known


@pytest.fixture(scope="session")
def known() -> Known:
    """A small decoder that knows the eight analytic shapes."""
    return load_known()


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Tests use small tensors, on which several threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
