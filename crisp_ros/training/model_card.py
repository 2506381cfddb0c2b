"""The model card: what a model file was made of, how well it does and where it will not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from .time_left import duration

_KNOWN_ALONE = (
    "Only the objects listed above; anything else is taken for the one that looks most like it."
)
_LIKE_THESE = "Objects like those listed above; it recognises none of them."
_MASKS = (
    "Each object needs a mask of its own; how good the masks are bounds how good the poses are."
)
_RENDERED = (
    "Trained on renders alone: gloss, glass, bright metal and lighting beyond the renderer's are"
    " unknown to it. Self-training on the robot's own frames is meant for that."
)


def model_card(header: Mapping[str, Any], file_name: str) -> str:
    """A model card in Markdown, made of a model file's header and nothing else.

    Args:
        header: as `TrainingRun` writes it, with `version` and, where known, `machine` and
            `command`.
        file_name: of the model file.
    """
    recipe, data, figures = header["recipe"], header["data"], header["figures"]
    parts = [
        f"# {file_name}",
        f"CRISP model, version {header['version']}: network `{recipe['network']}`, "
        f"{len(data['objects'])} objects.",
        "## Objects",
        _objects(data, figures),
        "## Figures",
        _figures(figures),
        "## Training",
        _training(header),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in _limits(header)),
        "## Recipe",
        f"```yaml\n{yaml.safe_dump(_plain(recipe), sort_keys=False)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _objects(data: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    errors = figures.get("held_out_pnc_mm_of", {})
    lines = [
        "| object | mesh | file's origin in the object frame (m) | symmetries | PNC error (mm) |",
        "|---|---|---|---|---|",
    ]
    for mesh in data["meshes"]:
        origin = ", ".join(f"{value:.4f}" for value in mesh["origin_in_object_frame_m"])
        error = f"{errors[mesh['name']]:.1f}" if mesh["name"] in errors else ""
        cells = (mesh["name"], mesh["file"], origin, str(mesh["symmetries"]), error)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {m['file']}: {note}" for m in data["meshes"] for note in m["notes"]]
    return "\n".join(lines) + ("\n\n" + "\n".join(notes) if notes else "")


def _figures(figures: Mapping[str, Any]) -> str:
    meanings = {
        "held_out_pnc_mm": "mean error of a network coordinate, mm",
        "held_out_pnc_median_mm": "... its median over crops, mm",
        "held_out_rotation_median_deg": "median rotation error of the pose that they give, degrees",
        "held_out_rotation_below_15_deg": "share of crops whose rotation error is below 15 degrees",
        "held_out_shape": "share of crops whose shape code is nearest to its own shape's",
        "held_out_sdf_mm": "mean error of the signed distance on and near the surface, mm",
    }
    lines = [
        f"- {meaning}: {figures[key]:.3g}" for key, meaning in meanings.items() if key in figures
    ]
    return "On crops that it was not trained on, before any correction:\n\n" + "\n".join(lines)


def _training(header: Mapping[str, Any]) -> str:
    seconds = header["seconds"]
    lines = [f"- crops: {header['data']['crops']}"]
    for stage, spent in seconds.items():
        lines.append(
            f"- {stage}: {duration(spent['wall'])}, {duration(spent['processor'])} of processors"
        )
    total = {kind: sum(spent[kind] for spent in seconds.values()) for kind in ("wall", "processor")}
    lines.append(
        f"- in all: {duration(total['wall'])}, {duration(total['processor'])} of processors"
    )
    machine = header.get("machine")
    if machine:
        lines.append(
            f"- machine: {machine['cpu']}, {machine['cores']} cores, device {machine['device']},"
            f" PyTorch {machine['torch']}"
        )
    if "backbone" in header:
        lines.append(f"- backbone of the model of version {header['backbone']['version']}")
    if "initial" in header:
        lines.append(f"- started from the model of version {header['initial']['version']}")
    if "command" in header:
        lines.append(f"- command: `{header['command']}`")
    return "\n".join(lines)


def _limits(header: Mapping[str, Any]) -> list[str]:
    recipe, data = header["recipe"], header["data"]
    limits = [_KNOWN_ALONE if recipe["keep_library"] else _LIKE_THESE, _MASKS]
    if recipe["shards"]:
        if not recipe["photographs"]:
            limits.append(_RENDERED)
        nearest, farthest = recipe["scatter"]["distance_m"]
        limits.append(f"Seen from {nearest} to {farthest} m away in training.")
    symmetric = [mesh["name"] for mesh in data["meshes"] if mesh["symmetries"] > 1]
    if symmetric:
        limits.append(
            f"{', '.join(symmetric)}: symmetric, so that the rotation about the axis is arbitrary."
        )
    errors = header["figures"].get("held_out_pnc_mm_of", {})
    mean = header["figures"]["held_out_pnc_mm"]
    worst = sorted((name for name in errors if errors[name] > 1.5 * mean), key=errors.get)[::-1]
    if worst:
        limits.append(f"Least certain of {', '.join(worst)}: see the errors above.")
    return limits


def _plain(value: Any) -> Any:
    """Values of a JSON header as YAML writes them best: tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
