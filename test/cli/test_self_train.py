import pytest

from crisp_ros.cli.main import main


def refused(capsys, *arguments):
    try:
        status = main(["self-train", *map(str, arguments)])
    except SystemExit as exit:
        status = exit.code
    told = capsys.readouterr().err
    assert status != 0 and len(told.splitlines()) == 1
    return told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "run"], "--bop --bag"),
        (["--bop", "nowhere", "--run", "run"], "nowhere"),
        (["--bag", "nowhere", "--run", "run"], "nowhere"),
        (["--bop", "a", "--bag", "b", "--run", "run"], "not allowed with"),
        (["--bop", "a", "--run", "run", "--algorithm", "3"], "invalid choice"),
        (["--bop", "a", "--run", "run", "--passes", "0"], "from 1 on"),
    ],
)
def test_bad_options_are_told_in_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []
