"""`crisp ablate`: what parts of the method are good for, measured with and without them."""

from __future__ import annotations

import argparse
from importlib import import_module

# Each kind is a module next to this one that offers `add_arguments(parser)` and `run(args)`.
KINDS = {
    "coordinates": (
        "crisp_ros.cli.ablate_coordinates",
        "metric and normalised coordinates under the same self-training",
    ),
    "corrector": ("crisp_ros.cli.ablate_corrector", "pose and shape by each solver and without"),
    "inputs": (
        "crisp_ros.cli.ablate_inputs",
        "a finished model without geometry, without the library's colours, with other crops",
    ),
    "library": (
        "crisp_ros.cli.ablate_library",
        "own code and D after self-training, with half of the shapes outside the library",
    ),
    "training": (
        "crisp_ros.cli.ablate_training",
        "coordinates, backbone, symmetries, D, codes: the same short training without each",
    ),
    "unseen": (
        "crisp_ros.cli.ablate_unseen",
        "surfaces of objects that the model does not know, or whose shapes its library lacks",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (module, summary) in KINDS.items():
        kind = kinds.add_parser(name, help=summary)
        import_module(module).add_arguments(kind)


def run(args: argparse.Namespace) -> None:
    import_module(KINDS[args.kind][0]).run(args)
