"""docs/results/self_training.json from the reports of `crisp self-train`.

    python -m crisp_ros.studies.self_training_summary --gap REPORT... --json FILE

Each report keeps its own command, machine and version.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from crisp_ros.data.atomic_file import write_json

FIGURES = ("auc_add_s_2cm", "auc_chamfer_5cm", "certified_share", "certified_within_2cm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap", type=Path, nargs="+", required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    runs = [_run(json.loads(path.read_text())) for path in args.gap]
    changes = {}
    for algorithm in sorted({run["algorithm"] for run in runs}):
        mine = [run for run in runs if run["algorithm"] == algorithm]
        seen = {"learned_from": mine}
        for name in mine[0]["held_out"]:
            seen[name] = [run["held_out"][name] for run in mine]
        changes[f"algorithm_{algorithm}"] = {"runs": len(mine)} | {
            name: _changes(compared) for name, compared in seen.items()
        }
    write_json(args.json, {"change": changes, "runs": runs})


def _changes(compared: list[dict[str, Any]]) -> dict[str, Any]:
    """Return before, after and change of each figure over several runs."""
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
    kept = ("algorithm", "passes", "kept_passes", "certified_share_after_passes")
    kept += ("before", "after", "certificates", "held_out", "model_version", "command")
    counts = ("steps", "swaps", "halved", "refused", "broken", "rollbacks")
    return {
        **{name: report[name] for name in (*kept, "version", "machine")},
        **{name: report["self_training"][name] for name in counts},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
