"""Tables of the ablation studies."""

from rich.console import Console

from crisp_ros.reports.study_tables import (
    coordinates_table,
    inputs_table,
    off_surface_table,
    training_table,
)


def test_a_shape_without_a_surface_is_named(capsys):
    table = off_surface_table({"everywhere": {"mean_mm": 1.25, "chamfer_mm": None}})
    Console().print(table)
    assert "1.25" in (printed := capsys.readouterr().out) and "no surface" in printed


def test_rows_show_areas_and_certified_share(capsys):
    areas = {"1cm": 0.111, "2cm": 0.222, "3cm": 0.333}
    row = {"part": "backbone", "name": "random", "auc_add_s": areas, "auc_e_shape": areas}
    Console(width=120).print(training_table([{**row, "certified_share": 0.875}]))
    printed = capsys.readouterr().out
    assert "backbone" in printed and "0.11 / 0.22 / 0.33" in printed and "0.88" in printed


def test_coordinates_are_compared_before_and_after(capsys):
    history = [
        {"norm_m": 0.1, "auc_add_s_2cm": 0.5, "certified": 0.25},
        {"norm_m": 0.08, "auc_add_s_2cm": 0.625, "certified": 0.75},
    ]
    Console(width=120).print(coordinates_table({"metric": {"history": history}}))
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("0.80", "0.500 -> 0.625", "0.25 -> 0.75"))


def test_variants_show_wrong_certificates_and_missed_medians(capsys):
    row = {
        "instances": 13,
        "auc_add": {"2cm": 0.612, "10cm": 0.8},
        "auc_add_s": {"2cm": 0.9, "10cm": 0.95},
        "median_rotation_deg": None,
        "certified": 11,
        "certified_wrong_place": 2,
        "certified_wrong_rotation": 3,
        "orientation_certified": 8,
        "orientation_certified_wrong": 1,
    }
    Console(width=160).print(inputs_table("real", {"as it is": row}))
    printed = capsys.readouterr().out
    assert all(t in printed for t in ("0.900", "0.612 / 0.800", "11 of 13 (2, 3)", "8 (1)", " - "))
