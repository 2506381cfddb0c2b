"""Figures that the CRISP paper (CVPR 2025) and others it quotes report, for comparison with ours.

All are measured on the whole data sets with the paper's networks; figures that are measured on a
part of one, or with another network, are only roughly comparable.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row of a published table.

    Attributes:
        name: of the method.
        source: the table.
        values: in the order of the columns; None where the source gives none.
    """

    name: str
    source: str
    values: tuple[float | None, ...]


# Area under the ADD-S accuracy curve to 1, 2 and 3 cm, YCB-Video.
YCBV_ADD_S = (
    Published("CRISP-Syn, PNC, self-trained", "Table 11", (0.22, 0.42, 0.54)),
    Published("CRISP-Syn, NOCS, self-trained", "Table 11", (0.0008, 0.036, 0.095)),
    Published("CRISP-Syn, frozen DINOv2", "Table 12", (None, 0.42, None)),
    Published("CRISP-Syn, random backbone", "Table 12", (None, 0.0, None)),
)
# Area under the accuracy curve of the one-sided normalised Chamfer distance to 3, 5 and 10 "cm".
YCBV_SHAPE = (
    Published("CRISP-Syn, self-trained", "Tables 13, 14", (0.25, 0.43, 0.65)),
    Published("without the network's code", "Table 13", (0.21, 0.35, 0.55)),
    Published("without D", "Table 14", (0.23, 0.40, 0.63)),
    Published("CRISP-Syn, frozen DINOv2", "Table 12", (None, 0.39, None)),
    Published("CRISP-Syn, random backbone", "Table 12", (None, 0.075, None)),
)
# e_shape^L1 mean and median, e_pose^L1 mean and median, SPE3R.
SPE3R = (
    Published("CRISP, without the corrector", "Table 10", (0.163, 0.159, 0.292, 0.211)),
    Published("CRISP, with Algorithm 1", "Table 10", (0.139, 0.120, 0.191, 0.176)),
)
# e_shape by category (bottle, bowl, camera, can, laptop, mug) and their average, NOCS.
NOCS_SHAPE = (
    Published("CRISP", "Table 8", (0.55, 0.31, 0.37, 0.18, 0.51, 0.16, 0.35)),
    Published("SPD", "Table 8", (*(None,) * 6, 3.17)),
    Published("SGPA", "Table 8", (*(None,) * 6, 2.44)),
    Published("CASS", "Table 8", (*(None,) * 6, 1.06)),
    Published("RePoNet", "Table 8", (*(None,) * 6, 2.37)),
)
# mAP in percent: IoU 25, 50, 75; 5 degrees 5 cm, 5 degrees 10 cm, 10 degrees 5 cm, NOCS.
NOCS_MAP = (
    Published("CRISP", "Table 9", (84.2, 83.5, 70.5, 22.5, 23.7, 62.8)),
    Published("NOCS", "Table 9", (84.8, 78.0, 30.1, 10.0, 9.8, 25.2)),
    Published("SPD", "Table 9", (81.2, 77.3, 53.2, 21.4, 21.4, 54.1)),
    Published("CASS", "Table 9", (84.2, 77.7, None, 23.5, 23.8, 58.0)),
    Published("SSC-6D", "Table 9", (83.2, 73.0, None, 19.6, None, 54.5)),
    Published("FSD", "Table 9", (80.9, 77.4, 61.9, 28.1, 34.4, 61.5)),
)
