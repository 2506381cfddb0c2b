"""The executable crisp_with_segmenter: segmenter and estimator in one process.

The camera's messages are received and converted once, labels reach the estimator as they are, and
the certified surfaces of the estimator correct the segmentation.

ros2 run crisp_ros crisp_with_segmenter --ros-args -p autostart:=true
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from crisp_ros.node.crisp_node import CrispNode
from crisp_ros.node.estimator_factory import make_estimator
from crisp_ros.node.main import run_nodes
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.segmenter.estimator_link import EstimatorLink
from crisp_ros.node.segmenter.segmenter_node import SegmenterNode
from crisp_ros.pipeline import Estimator


def linked_nodes(
    make_estimator: Callable[[Parameters], Estimator] = make_estimator, **options: Any
) -> tuple[SegmenterNode, CrispNode]:
    """Create both nodes; one executor has to serve them.

    Args:
        make_estimator: called when the estimator is configured.
        options: of both nodes.

    Raises:
        rclpy.exceptions.ParameterException: a parameter's override is refused.
    """
    link = EstimatorLink()
    crisp = CrispNode(make_estimator, link=link, **options)
    return SegmenterNode(link=link, **options), crisp


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment and estimate until shutdown; return 0, or 1 if parameters are refused."""
    return run_nodes(linked_nodes, arguments, "crisp_with_segmenter")


if __name__ == "__main__":
    sys.exit(main())
