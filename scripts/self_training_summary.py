"""docs/results/self_training.json from the reports of `crisp self-train` and of the safety script.

    scripts/self_training_summary.py --gap REPORT... --safety REPORT... --json FILE

Each report keeps its own command, machine and version.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from crisp_ros.evaluation.report import write_json

FIGURES = ("auc_add_s_2cm", "auc_chamfer_5cm", "certified_share", "certified_within_2cm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap", type=Path, nargs="+", required=True)
    parser.add_argument("--safety", type=Path, nargs="*", default=[])
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    runs = [_run(json.loads(path.read_text())) for path in args.gap]
    changes = {}
    for algorithm in sorted({run["algorithm"] for run in runs}):
        mine = [run for run in runs if run["algorithm"] == algorithm]
        changes[f"algorithm_{algorithm}"] = {"runs": len(mine)} | {
            name: _spread([run["after"][name] - run["before"][name] for run in mine])
            for name in FIGURES
        }
    safety = [json.loads(path.read_text()) for path in args.safety]
    write_json(args.json, {"change": changes, "runs": runs, "safety": safety})


def _run(report: dict[str, Any]) -> dict[str, Any]:
    words = report["command"].split()
    kept = ("before", "after", "model_version", "command", "version", "machine")
    counts = {k: report["self_training"][k] for k in ("steps", "swaps", "refused", "rollbacks")}
    chosen = words[words.index("--algorithm") + 1] if "--algorithm" in words else "2"
    return {"algorithm": chosen, **counts, **{name: report[name] for name in kept}}


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
