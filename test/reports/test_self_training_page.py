from crisp_ros.evaluation.self_training_comparison import Comparison, ObjectResult, Results
from crisp_ros.reports.self_training_page import self_training_page


def test_the_page_shows_improvements_and_escapes_names():
    before = Results((ObjectResult("<mug>", True, 0.01, 0.01), ObjectResult("cup", True, 0.0, 0.0)))
    after = Results((ObjectResult("<mug>", True, 0.0, 0.01), ObjectResult("cup", False, 0.02, 0.0)))
    elsewhere = {"elsewhere": Comparison(after, before)}
    text = self_training_page(
        "Self-training", "lead", "footer", Comparison(before, after), elsewhere
    )
    assert "&lt;mug&gt;" in text and "<mug>" not in text
    assert '<td class="better">+50.0' in text and '<td class="worse">-100.0' in text
    assert "Other frames" in text and '<td class="better">+50.0' in text.split("elsewhere")[1]
    assert text.count("<svg") == 2 and "http" not in text.replace("http://www.w3.org", "")


def test_without_truth_there_are_no_curves():
    unknown = Results((ObjectResult("a", True),))
    text = self_training_page("t", "l", "f", Comparison(unknown, unknown), {})
    assert "Other frames" not in text and "AUC" not in Comparison(unknown, unknown).summary
    assert "<svg" not in text and "100" in text
