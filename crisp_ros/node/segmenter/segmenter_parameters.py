"""Parameters of `crisp_segmenter`."""

from __future__ import annotations

import dataclasses

from crisp_ros.node.parameters.common_parameters import (
    autostart_parameter,
    colour_transport_parameter,
    depth_transport_parameter,
)
from crisp_ros.node.parameters.parameter_rules import Settable, parameter
from crisp_ros.segmentation.geometric import GeometricSettings
from crisp_ros.segmentation.segmenter import SegmenterSettings


@dataclasses.dataclass(frozen=True)
class SegmenterParameters:
    """All parameters of the segmenter, with their defaults."""

    autostart: bool = autostart_parameter()
    network: bool = parameter(
        True,
        "The network separates the objects, also where they touch; if false, geometry alone does, "
        "by depth edges.",
        Settable.UNCONFIGURED,
    )
    weights: str = parameter(
        "",
        "Weights of the network (.safetensors of crisp train --segmenter). Empty: those of the "
        "package.",
        Settable.UNCONFIGURED,
    )
    threads: int = parameter(
        1, "CPU threads of the network; 0: one per core.", Settable.UNCONFIGURED, 0, 256
    )
    image_transport: str = colour_transport_parameter()
    depth_image_transport: str = depth_transport_parameter()
    rectified: bool = parameter(
        True,
        "true: camera_info's P describes the images; false: K does. Labels have the geometry of "
        "the colour image in either case; lens distortion is not corrected for.",
    )
    depth_unit: float = parameter(
        0.0,
        "Length of one step of depth, metres; 0: by the encoding (REP 118).",
        low=0.0,
        high=1.0,
    )
    sync_slop: float = parameter(
        0.05,
        "Upper bound of the difference between the stamps of colour and depth, seconds.",
        Settable.UNLESS_ACTIVE,
        low=0.0,
        high=10.0,
    )
    near: float = parameter(0.15, "Nearest depth that is used, metres.", low=0.01, high=10.0)
    far: float = parameter(3.0, "Farthest depth that is used, metres.", low=0.1, high=20.0)
    min_height: float = parameter(
        0.01, "An object rises at least this far above its support, metres.", low=0.001, high=0.5
    )
    max_height: float = parameter(
        0.6,
        "What is farther above a support does not stand on it, metres.",
        low=0.02,
        high=5.0,
    )
    min_size: float = parameter(0.02, "Least length of an object, metres.", low=0.002, high=1.0)
    max_size: float = parameter(0.5, "Greatest length of an object, metres.", low=0.02, high=5.0)

    def settings(self) -> SegmenterSettings:
        """The settings of the segmenter."""
        geometry = GeometricSettings(
            near_m=self.near,
            far_m=self.far,
            min_height_m=self.min_height,
            max_height_m=self.max_height,
            min_size_m=self.min_size,
            max_size_m=self.max_size,
        )
        return SegmenterSettings(geometry=geometry)
