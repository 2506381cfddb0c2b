"""Variants of a finished model: without geometry, without library colours, with other crops.

Nothing is trained: inputs of the model are hidden, its crops have another side, or the colours of
its library are not compared. `crisp ablate training` compares networks that were trained without.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.bop_evaluation import BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.dataset_loop import DatasetLoop
from crisp_ros.evaluation.pose_summary import summarize_poses
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import COLOUR_CHANNELS, CrispNetwork, crop_multiple
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.studies.training_ablation import hide_depth

AS_IT_IS = "as it is"
NO_COLOURS = "library's colours not compared"
NO_DEPTH = "colour and mask alone"
_OTHER_SIDES = (2 / 3, 4 / 3)  # of the model's crop side


class Variant(NamedTuple):
    """A model with a part left out.

    Attributes:
        name: of the row.
        model: the changed model.
        settings: of its estimator.
    """

    name: str
    model: Model
    settings: EstimatorSettings


@dataclass(frozen=True)
class InputsAblation:
    """Compares variants of a model on a data set with ground truth.

    Attributes:
        model: with a library.
        colour_model: model of colour alone for a row of its own, or None.
        seed: of all random choices.
    """

    model: Model
    colour_model: Model | None = None
    seed: int = 0

    def variants(self) -> Iterator[Variant]:
        """The rows: without colours, without geometry, with other crops."""
        settings = EstimatorSettings(observation=ObservationSettings(seed=self.seed))
        yield Variant(AS_IT_IS, self.model, settings)
        yield Variant(NO_COLOURS, self.model, replace(settings, orientation=None))
        if self.model.network.input_channels > COLOUR_CHANNELS:
            hidden = replace(self.model, network=copy.deepcopy(self.model.network))
            hide_depth(hidden.network)
            yield Variant(NO_DEPTH, hidden, settings)
        if self.colour_model is not None:
            yield Variant("a model of colour alone", self.colour_model, settings)
        config = self.model.network.config
        step = crop_multiple(config.design)
        for share in _OTHER_SIDES:
            side = step * round(share * config.crop_size / step)
            network = CrispNetwork(replace(config, crop_size=side))
            network.load_state_dict(self.model.network.state_dict())
            resized = replace(self.model, network=network.eval())
            yield Variant(f"crops of {side} px instead of {config.crop_size}", resized, settings)

    def run(
        self,
        dataset: BopDataset,
        on_row: Callable[[str], DatasetLoop] = lambda name: DatasetLoop(),
    ) -> dict[str, dict[str, Any]]:
        """Measure all rows; JSON values by their names.

        Args:
            dataset: in the BOP layout.
            on_row: called with the name of each row before it is measured; gives its loop.
        """
        settings = BopEvaluationSettings(seed=self.seed)
        return {
            variant.name: summarize_poses(
                evaluate_bop(
                    Estimator(variant.model, variant.settings),
                    dataset,
                    settings,
                    on_row(variant.name),
                ).instances
            ).to_json()
            for variant in self.variants()
        }
