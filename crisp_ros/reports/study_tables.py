"""Results of the ablation studies as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from crisp_ros.studies.coordinates_comparison import norm_ratio


def coordinates_table(kinds: Mapping[str, Mapping[str, Any]]) -> Table:
    """Both kinds of coordinates before and after the self-training.

    Args:
        kinds: returned by `CoordinatesComparison.run`.
    """
    table = Table(title="Self-training with the same recipe, before and after")
    for heading in ("coordinates", "|Z| after / before", "ADD-S AUC (2 cm)", "certified"):
        table.add_column(heading)
    for kind, study in kinds.items():
        first, last = study["history"][0], study["history"][-1]
        table.add_row(
            kind,
            f"{norm_ratio(study['history']):.2f}",
            f"{first['auc_add_s_2cm']:.3f} -> {last['auc_add_s_2cm']:.3f}",
            f"{first['certified']:.2f} -> {last['certified']:.2f}",
        )
    return table


def inputs_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """The accuracy of each variant of a model.

    Args:
        title: of the table.
        rows: of `InputsAblation.run`.
    """
    table = Table(title=title)
    for heading in (
        "",
        "ADD-S AUC 2 cm",
        "ADD AUC 2/10 cm",
        "rotation deg",
        "certified (wrong place, rotation)",
        "orientation certified (wrong)",
    ):
        table.add_column(heading)
    for name, row in rows.items():
        rotation = row["median_rotation_deg"]
        table.add_row(
            name,
            f"{row['auc_add_s']['2cm']:.3f}",
            " / ".join(f"{value:.3f}" for value in row["auc_add"].values()),
            "-" if rotation is None else f"{rotation:.1f}",
            f"{row['certified']} of {row['instances']}"
            f" ({row['certified_wrong_place']}, {row['certified_wrong_rotation']})",
            f"{row['orientation_certified']} ({row['orientation_certified_wrong']})",
        )
    return table


def training_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The accuracy of each training or corrector.

    Args:
        rows: of `TrainingResults`.
    """
    table = Table(title="Accuracy, each row with its own short training or corrector")
    for heading in ("", "", "ADD-S AUC 1/2/3 cm", "e_shape AUC 3/5/10 cm", "certified"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["part"],
            row["name"],
            " / ".join(f"{value:.2f}" for value in row["auc_add_s"].values()),
            " / ".join(f"{value:.2f}" for value in row["auc_e_shape"].values()),
            f"{row['certified_share']:.2f}",
        )
    return table


def off_surface_table(shapes: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Errors of a decoder by the weight of its off-surface loss.

    Args:
        shapes: of `TrainingResults`; an error is None where a shape has no surface.
    """
    table = Table(title="Decoder fitted with the off-surface term of eq. (22), mm")
    table.add_column("term")
    for heading in next(iter(shapes.values())):
        table.add_column(heading.removesuffix("_mm"))
    for name, errors in shapes.items():
        table.add_row(name, *("no surface" if v is None else f"{v:.2f}" for v in errors.values()))
    return table
