"""The origin of measured figures."""

import json

from crisp_ros import __version__
from crisp_ros.evaluation.provenance import provenance


def test_provenance_names_command_version_and_machine() -> None:
    stated = provenance("crisp evaluate bop DIR")
    assert (stated["command"], stated["version"]) == ("crisp evaluate bop DIR", __version__)
    assert stated["machine"]["threads"] >= 1 and stated["machine"]["device"] == "cpu"
    json.dumps(stated, allow_nan=False)
