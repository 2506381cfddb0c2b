"""The command line: help everywhere, one line for bad input, tracebacks only for defects."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from crisp_ros.cli import main as cli
from crisp_ros.cli.main import COMMANDS, Command, main
from crisp_ros.data.bop import DatasetError

Pretend = Callable[[Exception | None], list[argparse.Namespace]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Install a subcommand `pretend FILE` that records its arguments, or fails."""

    def install(failure: BaseException | None) -> list[argparse.Namespace]:
        runs: list[argparse.Namespace] = []

        def run(args: argparse.Namespace) -> None:
            runs.append(args)
            if failure is not None:
                raise failure

        module = SimpleNamespace(add_arguments=lambda p: p.add_argument("file"), run=run)
        monkeypatch.setitem(COMMANDS, "pretend", Command("pretend_module", "pretend to work"))
        monkeypatch.setattr(cli, "import_module", lambda name: module)
        return runs

    return install


def test_a_subcommand_gets_its_arguments_and_the_command_line(pretend: Pretend) -> None:
    runs = pretend(None)
    assert main(["pretend", "a.json"]) == 0
    assert (runs[0].file, runs[0].command_line) == ("a.json", "crisp pretend a.json")


@pytest.mark.parametrize(
    "failure, status",
    [
        (DatasetError("scene_gt.json: no such\n file"), 1),
        (FileNotFoundError(2, "No such file or directory", "x.json"), 1),
        (ModuleNotFoundError("No module named 'igl'", name="igl"), 1),
    ],
)
def test_bad_input_is_one_line(
    pretend: Pretend, capsys: pytest.CaptureFixture[str], failure: Exception, status: int
) -> None:
    pretend(failure)
    assert main(["pretend", "a.json"]) == status
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("crisp pretend: ") and "Traceback" not in printed.err


@pytest.mark.parametrize(
    "failure", [ValueError("a defect"), ModuleNotFoundError("lost", name="crisp_ros.lost")]
)
def test_a_defect_keeps_its_traceback(pretend: Pretend, failure: Exception) -> None:
    pretend(failure)
    with pytest.raises(type(failure)):
        main(["pretend", "a.json"])


def test_an_interrupt_has_its_own_status(
    pretend: Pretend, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(KeyboardInterrupt())
    assert main(["pretend", "a.json"]) == 130
    assert capsys.readouterr().err == "crisp pretend: interrupted\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["pretend"], ["pretend", "-x"]])
def test_an_unreadable_command_line_is_one_line_too(
    pretend: Pretend, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    pretend(None)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "--help" in printed


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"crisp {name}" in capsys.readouterr().out


def test_the_module_runs_and_help_needs_no_torch() -> None:
    script = (
        "import sys, runpy; sys.argv = ['crisp', '--version']\n"
        "try: runpy.run_module('crisp_ros.cli', run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2][1] == "0 False" and "crisp_ros 0" in done.stdout


def test_a_missing_file_comes_first(pretend: Pretend, capsys: pytest.CaptureFixture[str]) -> None:
    pretend(FileNotFoundError(2, "No such file or directory", "x.json"))
    main(["pretend", "a.json"])
    assert capsys.readouterr().err == "crisp pretend: x.json: no such file or directory\n"
