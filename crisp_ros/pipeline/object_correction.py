"""Correction of registered objects: the corrector's answer, with boxes of all shapes."""

from __future__ import annotations

from crisp_ros.correction.batch import replace_rows
from crisp_ros.correction.box_search import with_boxes
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.registration import Registration


def correct_objects(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    registration: Registration,
    library: PreparedLibrary | None,
    settings: CorrectorSettings | None,
) -> Correction:
    """Correct poses and shapes of B objects; the shapes get boxes.

    Args:
        field: f_d.
        correspondences: of the objects.
        shapes: (B,) of the network.
        registration: of the coordinates.
        library: the known shapes; None where the corrector keeps the network's.
        settings: None leaves the network's answer as it is.
    """
    T = registration.T_object_camera
    if settings is None:
        correction = Correction.of_network(correspondences, shapes, T)
    else:
        correction = correct(field, correspondences, shapes, T, library, settings)
        if settings.returns_library_shapes:
            return correction
    outside = (correction.shapes.index < 0).nonzero().squeeze(-1)
    if len(outside) == 0:
        return correction
    seen = ObjectPoints.of(correction.pnc[outside], correspondences.valid[outside])
    found = with_boxes(field, correction.shapes.rows(outside), seen)
    return correction._replace(shapes=replace_rows(correction.shapes, outside, found))
