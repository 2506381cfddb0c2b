"""The scene that most tests of the room look at."""

import pytest
from analytic_scene import Rendered, rendered
from pipeline.three_objects import POSES, SHAPES


@pytest.fixture(scope="session")
def scene() -> Rendered:
    return rendered(SHAPES, POSES, (4, 7, 11))
