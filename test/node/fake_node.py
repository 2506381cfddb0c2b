"""The node's process in tests, with a fake estimator whose estimates are known."""

import sys

from node.fakes import FakeEstimator

from crisp_ros.node.crisp_node import CrispNode
from crisp_ros.node.main import run

if __name__ == "__main__":
    sys.exit(run(lambda: CrispNode(lambda parameters: FakeEstimator())))
