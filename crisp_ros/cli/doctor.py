"""`crisp doctor`: checks whether everything that the node needs is there, and how to fix it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crisp_ros.cli.options import add_checkpoint_option, add_json_option, device
from crisp_ros.data.atomic_file import write_json
from crisp_ros.doctor.findings import Finding, Verdict, problem
from crisp_ros.doctor.machine_checks import machine_findings, model_findings
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.share import checkpoint_path

_STYLES = {Verdict.FINE: "green", Verdict.NOTE: "yellow", Verdict.PROBLEM: "bold red"}


class DoctorError(Exception):
    """Problems that must be fixed, listed in the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )
    parser.add_argument(
        "--topics", action="store_true", help="also listen to the node's input topics"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="time to listen (default: 3)"
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="namespace of the node")
    parser.add_argument(
        "--remap",
        action="append",
        default=[],
        metavar="FROM:=TO",
        help="remapping of a topic, as for the node; can be repeated",
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    findings = list(_findings(args))
    console = Console()
    table = Table("area", "what", "verdict", "found", box=None, pad_edge=False)
    for finding in findings:
        verdict = Text(finding.verdict.value, _STYLES[finding.verdict])
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n→ {finding.advice}", "bold")
        table.add_row(finding.area, finding.name, verdict, found)
    console.print(table)
    problems = [f for f in findings if f.verdict is Verdict.PROBLEM]
    if args.json:
        listed = [{**f._asdict(), "verdict": f.verdict.value} for f in findings]
        write_json(args.json, {**provenance(args.command_line, args.device), "findings": listed})
    if problems:
        named = ", ".join(f"{f.area}: {f.name}" for f in problems)
        raise DoctorError(f"{len(problems)} to fix: {named}")
    console.print("\nnothing to fix")


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield from machine_findings()
    yield from model_findings(lambda: checkpoint_path(args.checkpoint), args.device)
    try:
        from crisp_ros.node.health import ros_checks
    except ImportError as error:
        yield problem(
            "ROS",
            "distribution",
            f"cannot be imported: {error}",
            "source /opt/ros/jazzy/setup.bash, or pip install 'crisp_ros[ros]'",
        )
        return
    yield from ros_checks.ros_findings()
    if args.topics:
        remappings = [part for remap in args.remap for part in ("-r", remap)]
        yield from ros_checks.topic_findings(args.seconds, args.namespace, remappings)
