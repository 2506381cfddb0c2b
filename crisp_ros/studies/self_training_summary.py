"""The summary of several self-trainings: docs/results/self_training.json.

    python -m crisp_ros.studies.self_training_summary --gap REPORT... --json FILE

The reports are those of `crisp self-train`; each keeps its own command, machine and version.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from crisp_ros.data.atomic_file import write_json

FIGURES = ("auc_add_s_2cm", "auc_chamfer_5cm", "certified_share", "certified_within_2cm")
_KEPT = ("corrector", "passes", "kept_passes", "certified_share_after_passes", "before", "after")
_KEPT += ("certificates", "held_out", "model_version", "command", "version", "machine")
_COUNTS = ("steps", "swaps", "halved", "refused", "broken", "rollbacks")


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise reports by corrector, as JSON values: changes of the figures, and the runs."""
    runs = [_run(report) for report in reports]
    changes = {}
    for corrector in sorted({run["corrector"] for run in runs}):
        mine = [run for run in runs if run["corrector"] == corrector]
        compared = {"learned_from": mine}
        for name in mine[0]["held_out"]:
            compared[name] = [run["held_out"][name] for run in mine]
        changes[corrector] = {"runs": len(mine)} | {
            name: _changes(runs_of) for name, runs_of in compared.items()
        }
    return {"change": changes, "runs": runs}


def _changes(compared: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures before and after, and their change over several runs."""
    found: dict[str, Any] = {
        "objects": [one["before"]["objects"] for one in compared],
        "certificates": {
            kind: sum(one["certificates"][kind] for one in compared) for kind in ("won", "lost")
        },
    }
    for name in FIGURES:
        pairs = [(one["before"][name], one["after"][name]) for one in compared]
        found[name] = {
            "before": float(np.mean([before for before, _ in pairs])),
            "after": float(np.mean([after for _, after in pairs])),
            "change": _spread([after - before for before, after in pairs]),
        }
    return found


def _run(report: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: report[name] for name in _KEPT},
        **{name: report["self_training"][name] for name in _COUNTS},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap", type=Path, nargs="+", required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    write_json(args.json, summary([json.loads(path.read_text()) for path in args.gap]))


if __name__ == "__main__":
    main()
