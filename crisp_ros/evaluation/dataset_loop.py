"""The loop that all evaluations share: images in, measured instances out, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from crisp_ros.cluster import MapFunction
from crisp_ros.evaluation.frame_estimates import Estimated

Image = TypeVar("Image")
Errors = TypeVar("Errors")


@dataclass(frozen=True)
class SampledEvaluationSettings:
    """Settings of an evaluation on a data set.

    Attributes:
        samples: points sampled on the true and on the reconstructed surface.
        every: use every n-th image; 1 uses all.
        seed: of the samples.
    """

    samples: int = 2_500
    every: int = 1
    seed: int = 0


@dataclass(frozen=True)
class MeasuredImage(Generic[Errors]):
    """The measurements of one image.

    Attributes:
        instances: errors of each annotated instance, with its estimate where there is one.
        boxes: what else the evaluation keeps of an image.
    """

    instances: list[tuple[Errors, Estimated | None]]
    boxes: Any = None


@dataclass(frozen=True)
class DatasetLoop:
    """Loop over the images of an evaluation.

    Attributes:
        on_frame: called after each image with the number done and the total.
        on_instance: called with each estimate and its errors.
        mapped: processes the images; see `crisp_ros.cluster.mapping`.
    """

    on_frame: Callable[[int, int], None] = lambda done, total: None
    on_instance: Callable[[Estimated, Any], None] = lambda estimated, errors: None
    mapped: MapFunction = field(default=map)

    def run(
        self, measure: Callable[[Image], MeasuredImage[Errors]], images: Sequence[Image]
    ) -> Iterator[MeasuredImage[Errors]]:
        """Measure the images, in their order.

        Args:
            measure: estimates one image and measures its instances; may run in another process.
            images: places in the data set.
        """
        for done, measured in enumerate(self.mapped(measure, images), start=1):
            for errors, estimated in measured.instances:
                if estimated is not None:
                    self.on_instance(estimated, errors)
            yield measured
            self.on_frame(done, len(images))
