"""The stages of a training run that give shapes their codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder

from .augment import AugmentSettings
from .mesh_codes import sdf_error
from .objective import predicted
from .recipe import Recipe
from .saved_state import save_state
from .sdf_samples import SdfSamples, drawn
from .shape_codes import fit_shape_codes, neutral_codes
from .shape_latents import fit_shape_latents
from .supervised import SupervisedTrainer

_CROPS_OF_A_MESH = 64
_POINTS_TO_CHOOSE_BY = 1000


def fitted_codes(
    decoder: ShapeDecoder,
    known_codes: Tensor | None,
    samples: Callable[[], SdfSamples],
    shapes: int,
    recipe: Recipe,
    folder: Path,
    on_step: Callable[[int, int], None],
) -> Tensor:
    """Fit a decoder and codes (K, C) to K shapes, or read back what a stopped run fitted.

    Args:
        decoder: changed in place.
        known_codes: codes that the decoder knows already, to start each shape from the nearest;
            None for a decoder that knows nothing.
        samples: makes points around the shapes, where they are needed.
        shapes: K.
        recipe: says how.
        folder: where the results are kept.
        on_step: called with the number of steps done and the total.
    """
    if recipe.shape_latents is not None:
        return _codes_of_latents(decoder, samples(), recipe, folder, on_step)
    refinement = recipe.decoder_refinement
    total = recipe.shape_codes.steps + (refinement.steps if refinement else 0)
    path = folder / "shape_codes.pt"
    done = recipe.shape_codes.steps if path.exists() else 0
    on_step(done, total)
    if not path.exists():
        codes = _first_codes(decoder, known_codes, samples, shapes, recipe)
        codes = fit_shape_codes(
            decoder,
            codes,
            samples(),
            recipe.shape_codes,
            recipe.seed,
            report=lambda step, loss: on_step(step, total),
        )
        save_state({"decoder": decoder.state_dict(), "codes": codes}, path)
    state = torch.load(path, map_location=codes_device(decoder), weights_only=True)
    decoder.load_state_dict(state["decoder"])
    if refinement is not None:
        path = folder / "shape_decoder.pt"
        if not path.exists():
            fit_shape_codes(
                decoder,
                state["codes"],
                samples(),
                refinement,
                recipe.seed + 1,
                train="decoder",
                report=lambda step, loss: on_step(recipe.shape_codes.steps + step, total),
            )
            save_state(decoder.state_dict(), path)
        decoder.load_state_dict(
            torch.load(path, map_location=codes_device(decoder), weights_only=True)
        )
    on_step(total, total)
    return state["codes"]


@torch.no_grad()
def mean_crop_codes(trainer: SupervisedTrainer, meshes: int) -> dict[int, Tensor]:
    """The mean h = f_e(I) of each mesh over some crops it was trained on, (C,) by its number.

    Meshes that are in no crop are left out.
    """
    trainer.network.eval()
    codes, trained = {}, trainer.split.trained
    for mesh in range(meshes):
        indices = trained[trainer.crops.mesh[trained] == mesh][-_CROPS_OF_A_MESH:]
        if len(indices) > 0:
            batch, _ = trainer.batch(indices, AugmentSettings.none())
            codes[mesh] = predicted(trainer.network, batch.crops, False)[1].mean(0)
    return codes


def _codes_of_latents(
    decoder: ShapeDecoder,
    samples: SdfSamples,
    recipe: Recipe,
    folder: Path,
    on_step: Callable[[int, int], None],
) -> Tensor:
    settings, state = recipe.shape_latents, folder / "shape_latents.pt"
    if not state.exists():
        with torch.no_grad():
            decoder.film_layers[0].weight.mul_(recipe.first_layer_gain)
    return fit_shape_latents(
        decoder,
        samples,
        settings,
        state,
        recipe.seed,
        lambda step, error_m: on_step(step, settings.steps),
    )


def codes_device(decoder: ShapeDecoder) -> torch.device:
    """Return the device for a decoder's codes."""
    return decoder.final_layer.weight.device


def _first_codes(
    decoder: ShapeDecoder,
    known_codes: Tensor | None,
    samples: Callable[[], SdfSamples],
    shapes: int,
    recipe: Recipe,
) -> Tensor:
    noise = recipe.shape_codes.code_noise
    if known_codes is None:
        with torch.no_grad():
            decoder.film_layers[0].weight.mul_(recipe.first_layer_gain)
        return neutral_codes(decoder, shapes, noise, recipe.seed)
    few = drawn(samples(), torch.arange(shapes), (_POINTS_TO_CHOOSE_BY,) * 3, range(shapes))
    nearest = [
        sdf_error(decoder, known_codes, SdfSamples(few.points[[k]], few.distances[[k]])).argmin()
        for k in range(shapes)
    ]
    return known_codes[torch.stack(nearest)]
