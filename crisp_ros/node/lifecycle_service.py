"""Correction of rclpy's lifecycle service."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode

from crisp_ros.node.node_state import NodeState


def reject_invalid_transitions(node: LifecycleNode, state: NodeState) -> None:
    """Make a node answer transitions that its state does not allow with success = False.

    rclpy raises in the callback of the service instead, which ends the node without an answer.
    """
    service = next(s for s in node.services if s.srv_type is ChangeState)
    change_state = service.callback

    def change_state_or_refuse(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError as error:
            node.get_logger().warning(f"transition refused while {state.label}: {error}")
            response.success = False
            return response

    service.callback = change_state_or_refuse
