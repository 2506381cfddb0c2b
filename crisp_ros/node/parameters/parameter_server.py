"""Declares the node's parameters and keeps their values; a change is checked before it applies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from crisp_ros.node.parameters.node_parameters import FIELDS, Parameters, descriptor, rules


class ParameterServer:
    """Declares the parameters of a node and keeps their values.

    A change is checked before it applies, and refused with the reason; `values` are all that hold.
    """

    def __init__(self, node: Node, state: Callable[[], str]) -> None:
        """Declares all parameters.

        Args:
            node: whose parameters they are.
            state: the label of the node's lifecycle state.

        Raises:
            rclpy.exceptions.InvalidParameterValueException: an override is refused.
            rclpy.exceptions.InvalidParameterTypeException: an override has the wrong type.
        """
        self._state = state
        node.add_on_set_parameters_callback(self._check)
        declared = [(name, field.default, descriptor(name)) for name, field in FIELDS.items()]
        parameters = node.declare_parameters("", declared)
        self.values = Parameters(**{parameter.name: parameter.value for parameter in parameters})
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            reason = self._problem(parameter)
            if reason is not None:
                return SetParametersResult(successful=False, reason=f"{parameter.name}: {reason}")
        return SetParametersResult(successful=True)

    def _problem(self, parameter: Parameter) -> str | None:
        if parameter.name not in FIELDS:  # of rclpy itself, such as use_sim_time
            return None
        settable = rules(parameter.name).settable
        if self._state() not in settable.value:
            return settable.advice
        if isinstance(parameter.value, float) and not math.isfinite(parameter.value):
            return f"{parameter.value} is not a finite number"
        return rules(parameter.name).problem(parameter.value)

    def _apply(self, parameters: Iterable[Parameter]) -> None:
        changed = {p.name: p.value for p in parameters if p.name in FIELDS}
        if changed:
            self.values = dataclasses.replace(self.values, **changed)
