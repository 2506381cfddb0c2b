"""Lifecycle that the nodes of the package share: start-up, refusals, and the way back."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from crisp_ros.node.lifecycle_service import reject_invalid_transitions
from crisp_ros.node.node_state import NodeState

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNode):
    """Lifecycle node that reports why a transition failed.

    A subclass defines `on_configure` and `on_activate`, which end with `_enter` or `_refuse`, and
    `_stop`, `_release` and `_update_diagnostics`. rclpy swallows the exceptions of transitions, so
    each has to report its own errors.
    """

    def __init__(self, name: str, **options: Any) -> None:
        """Begin in the unconfigured state."""
        super().__init__(name, **options)
        self._state = NodeState()
        reject_invalid_transitions(self, self._state)

    def start_by_itself(self) -> None:
        """Configure and activate in the first spin.

        By the node itself: requests that launch files send while nodes still discover each other
        can be lost.
        """
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._start_timer = self.create_timer(0.0, self._start_up, clock=steady)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop to work; what was configured stays."""
        self._stop()
        super().on_deactivate(state)
        return self._enter("inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release what was configured."""
        self._release()
        return self._enter("unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End all work, in any state."""
        self._stop()
        self._release()
        return self._enter("finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to the unconfigured state."""
        self._stop()
        self._release()
        return self._enter("unconfigured")

    def _stop(self) -> None:
        """End what `on_activate` started."""
        raise NotImplementedError

    def _release(self) -> None:
        """Release what `on_configure` made."""
        raise NotImplementedError

    def _update_diagnostics(self) -> None:
        """Publish the diagnostics now."""
        raise NotImplementedError

    def _start_up(self) -> None:
        self.destroy_timer(self._start_timer)
        if self._state.label == "unconfigured" and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _enter(self, label: str) -> TransitionCallbackReturn:
        self._state.enter(label)
        return SUCCESS

    def _refuse(self, problem: str) -> TransitionCallbackReturn:
        self._state.problem = problem
        self.get_logger().error(problem)
        self._update_diagnostics()
        return FAILURE
