"""The loop of the evaluations: order, progress, and who hears of which estimate."""

from crisp_ros.evaluation.dataset_loop import DatasetLoop, MeasuredImage


def measure(image: str) -> MeasuredImage[str]:
    """Two instances per image, of which the second was missed."""
    return MeasuredImage([(f"{image} errors", f"{image} estimate"), ("missed", None)], image)


def test_images_come_in_order_with_progress_and_estimates() -> None:
    events: list[object] = []
    loop = DatasetLoop(
        lambda done, total: events.append((done, total)),
        lambda estimated, errors: events.append((estimated, errors)),
    )
    images = [measured.boxes for measured in loop.run(measure, ["a", "b"])]
    assert images == ["a", "b"]
    assert events == [
        ("a estimate", "a errors"),
        (1, 2),
        ("b estimate", "b errors"),
        (2, 2),
    ]


def test_another_map_processes_the_images() -> None:
    def backwards(task, items):
        return map(task, reversed(list(items)))

    loop = DatasetLoop(mapped=backwards)
    assert [measured.boxes for measured in loop.run(measure, ["a", "b"])] == ["b", "a"]
