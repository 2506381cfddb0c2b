"""The rows of the training ablation."""

from crisp_ros.studies.training_rows import ROWS, TRAININGS


def test_trainings_have_rows_and_parts_have_alternatives():
    assert {row.training for row in ROWS} == set(TRAININGS)
    for part in {row.part for row in ROWS}:
        rows = [row for row in ROWS if row.part == part]
        assert len({row.key for row in rows}) == len(rows) > 1
    (with_code, with_d) = (
        row for row in ROWS if row.part in ("code column", "diameters") and "with " in row.name
    )
    assert with_code.self_trained and with_code.key == with_d.key
