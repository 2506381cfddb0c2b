import pytest
from known import Known, load_known


@pytest.fixture(scope="session")
def known() -> Known:
    return load_known()
