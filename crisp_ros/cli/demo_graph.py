"""The ROS graph of `crisp demo`: the node and the player, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crisp_ros.share import share_directory

SEGMENTER = "crisp_segmenter"  # name in the graph
_POLL_S = 0.05
_GOODBYE_S = 5.0
_PARTICIPANTS = 33  # as many of a machine as ROS looks for in a domain
_DOMAINS = range(40, 100)  # FastDDS's ports allow up to 101 on every system


class DemoError(Exception):
    """The demo cannot go on; the message says why and where to read more."""


class Graph:
    """Two running processes and the folder that the player writes (see player_results.py)."""

    def __init__(self, results: Path, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        self._results = results
        self._processes = processes

    def notes(self) -> Iterator[dict[str, Any]]:
        """Yield the records of the player as they arrive, up to the last one.

        Raises:
            DemoError: the player reports an error, or one of the two has ended early.
        """
        path = self._results / "results.jsonl"
        read, rest = 0, ""
        while True:
            over = self._ended()  # asked before reading: what it wrote last is still read
            if path.exists():
                with path.open() as file:
                    file.seek(read)
                    rest += file.read()
                    read = file.tell()
            *lines, rest = rest.split("\n")
            for entry in map(json.loads, lines):
                if entry["kind"] == "end":
                    return
                if entry["kind"] == "error":
                    raise DemoError(self._with_complaint(entry["text"]))
                yield entry
            if over and not lines:
                raise DemoError(self._obituary(over))
            time.sleep(_POLL_S)

    def _ended(self) -> str:
        """The name of a process that runs no more, "" while both do."""
        return next((n for n, p in self._processes.items() if p.poll() is not None), "")

    def _with_complaint(self, text: str) -> str:
        """The player's error, and what the node last warned of."""
        lines = self._log("node").read_text(errors="replace").splitlines()
        complaints = [line for line in lines if "[WARN]" in line or "[ERROR]" in line]
        said = f"; it says: {complaints[-1].partition(']: ')[2]}" if complaints else ""
        return f"{text}{said} (log: {self._log('node')})"

    def _obituary(self, name: str) -> str:
        """Describe the exit of a process and its last output."""
        status = self._processes[name].wait()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        lines = self._log(name).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"the {name} has ended, {how}; its last line: {last} (log: {self._log(name)})"

    def _log(self, name: str) -> Path:
        return self._results / f"{name}.log"


@contextmanager
def running_graph(
    results: Path, parameters: Mapping[str, Mapping[str, Any]], domain: int
) -> Iterator[Graph]:
    """Run node and player; both end with the block, also where it is interrupted or terminated.

    Args:
        results: existing folder for parameters.yaml, node.log and player.log.
        parameters: of each node, by its name in the graph; a segmenter is part of the node's
            process if it has some.
        domain: the ROS domain, of this machine alone.
    """
    parameter_file = results / "parameters.yaml"
    content = {name: {"ros__parameters": dict(values)} for name, values in parameters.items()}
    parameter_file.write_text(json.dumps(content, indent=1))  # JSON is YAML
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(share_directory() / "config" / "fastdds_shm.xml"),
    }
    arguments = ["--ros-args", "--params-file", str(parameter_file)]
    processes: dict[str, subprocess.Popen[bytes]] = {}
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node = "segmenter.composed_nodes" if SEGMENTER in parameters else "main"
        modules = {"node": node, "player": "player.player_node"}
        for name, module in modules.items():
            with (results / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", f"crisp_ros.node.{module}", *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # an interruption is ours to pass on
                )
        yield Graph(results, processes)
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            try:
                process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        signal.signal(signal.SIGTERM, terminated)


def free_domain() -> int:
    """A ROS domain in which no process of this machine takes part: two demos do not mix."""
    start = os.getpid()
    for domain in (_DOMAINS[(start + i) % len(_DOMAINS)] for i in range(len(_DOMAINS))):
        if not in_use(domain):
            return domain
    raise DemoError(f"every ROS domain from {_DOMAINS[0]} to {_DOMAINS[-1]} is in use")


def in_use(domain: int) -> bool:
    """Whether a process of this machine takes part in a ROS domain."""
    # DDS derives from the domain the port at which its participants are found, two apart. A process
    # numbers its participants through all domains: a domain's only one may have any number.
    return any(_is_bound(7400 + 250 * domain + 10 + 2 * i) for i in range(_PARTICIPANTS))


def _is_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False
