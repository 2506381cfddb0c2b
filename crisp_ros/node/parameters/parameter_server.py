"""Parameters of the node: declaration, values, and the check of changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from crisp_ros.node.parameters.node_parameters import Parameters, descriptor, rules


class ParameterServer:
    """Declared parameters of a node and their values.

    A change is checked before it applies, and refused with the reason.

    Attributes:
        values: current values of all parameters.
    """

    def __init__(self, node: Node, state: Callable[[], str], kind: type[Any] = Parameters) -> None:
        """Declare all parameters.

        Args:
            node: that owns the parameters.
            state: returns the label of the node's lifecycle state.
            kind: dataclass of the parameters, with the rules of each field.

        Raises:
            rclpy.exceptions.InvalidParameterValueException: invalid override.
            rclpy.exceptions.InvalidParameterTypeException: override of the wrong type.
        """
        self._state, self._kind = state, kind
        self._names = {field.name for field in dataclasses.fields(kind)}
        node.add_on_set_parameters_callback(self._check)
        declared = [
            (field.name, field.default, descriptor(field.name, kind))
            for field in dataclasses.fields(kind)
        ]
        parameters = node.declare_parameters("", declared)
        self.values = kind(**{parameter.name: parameter.value for parameter in parameters})
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            reason = self._problem(parameter)
            if reason is not None:
                return SetParametersResult(successful=False, reason=f"{parameter.name}: {reason}")
        return SetParametersResult(successful=True)

    def _problem(self, parameter: Parameter) -> str | None:
        if parameter.name not in self._names:  # of rclpy, such as use_sim_time
            return None
        found = rules(parameter.name, self._kind)
        if self._state() not in found.settable.value:
            return found.settable.advice
        # rclpy checks ranges too, but NaN passes its check.
        if found.range is not None and parameter.value not in found.range:
            return f"{parameter.value}: expected {found.range}"
        return found.problem(parameter.value)

    def _apply(self, parameters: Iterable[Parameter]) -> None:
        changed = {p.name: p.value for p in parameters if p.name in self._names}
        if changed:
            self.values = dataclasses.replace(self.values, **changed)
