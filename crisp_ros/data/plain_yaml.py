"""YAML of plain values, by the parser that is installed."""

from __future__ import annotations

from typing import Any


def parse_yaml(text: str) -> Any:
    """Parse one YAML document of plain values; no objects are constructed.

    Raises:
        ValueError: the text is no such document; says why.
    """
    try:
        import yaml  # every ROS 2 has it
    except ImportError:  # only the parser of rosbags is there
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        load = YAML(typ="safe", pure=True).load
    else:
        load, YAMLError = yaml.safe_load, yaml.YAMLError
    try:
        return load(text)
    except (YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error
