"""Signed distances of library shapes from tables, and of other shapes from the decoder."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.packed_tables import PackedTables, packed_bytes, table_error
from crisp_ros.correction.shape_field import PREPARED_SHAPES, ShapeField
from crisp_ros.correction.shape_table import ACCURACY_M, ShapeTable, tabulate
from crisp_ros.correction.table_cache import TableCache, decoder_checksum, table_key
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.network.decoder import ShapeDecoder, SignedDistance
from crisp_ros.network.library import ShapeLibrary

_log = logging.getLogger(__name__)

_LARGEST_BYTES = 160 * 2**20  # of packed tables; the YCB-Video shapes take 82 MB
_WORTH_POINTS = 80_000  # evaluations by the decoder that take as long as making a table


class _Tables(NamedTuple):
    """The tables in use.

    packed: of the shapes that have one. slots: (K,) int64, which of these a library shape is, -1
    for none; None where every library shape has the number that it has in the library.
    """

    packed: PackedTables
    slots: Tensor | None

    def of(self, index: Tensor) -> Tensor:
        """Numbers of library shapes (...) among the packed tables; -1 for none."""
        if self.slots is None:
            return index
        return torch.where(index < 0, -1, self.slots[index])


class TabulatedField:
    """A `ShapeField` that looks signed distances of library shapes up in tables.

    Tables are within 0.2 mm of the decoder wherever a point is within 2 cm of the surface. The
    decoder answers for codes that are not the library's, for shapes whose tables would not be that
    accurate, and for those that do not fit into the memory allowed. On a GPU, once every library
    shape has a table, both answer for all points, so that the host need not wait to see which
    shapes they are of. May be used by several threads.

    Attributes:
        decoder: f_d.
    """

    def __init__(
        self,
        decoder: ShapeDecoder,
        library: ShapeLibrary,
        cache: TableCache | None = None,
        largest_bytes: int = _LARGEST_BYTES,
    ) -> None:
        """Create a field without tables: `prepare`, or the first evaluation, makes them.

        Args:
            decoder: f_d; its weights must not change.
            library: the shapes that `Shapes.index` counts, on the decoder's device.
            cache: where tables are kept from one start to the next; None keeps none.
            largest_bytes: of memory for tables; beyond it the least recently used ones are dropped.
        """
        self.decoder, self._library = decoder, library
        self._cache, self._largest_bytes = cache, largest_bytes
        self._checksum = decoder_checksum(decoder) if cache is not None else ""
        self._kept: OrderedDict[int, ShapeTable] = OrderedDict()  # last used at the end
        self._decoded: Counter[int] = Counter()  # points of the other shapes
        self._unpaid = 0  # of these points since the last table
        self._not_possible: set[int] = set()
        self._prepared = False
        self._lock = threading.Lock()
        self._tables = self._packed()

    def prepare(self, on_shape: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Make or load the tables of a library of at most 64 shapes, about 0.1 s a shape.

        Those of a larger library are made as its shapes are used, each when the decoder has spent
        as much time on it.

        Args:
            on_shape: called after every shape with the number done and that of all.
        """
        with self._lock:
            if not self._prepared:
                self._prepared = True
                if len(self._library) <= PREPARED_SHAPES:
                    self._keep(range(len(self._library)), on_shape)

    @property
    def capture_key(self) -> TabulatedField | None:
        """See `ShapeField`: while tables are made, every evaluation looks which shapes have one."""
        return self if self._tables_in_use().slots is None else None

    def for_library(self) -> ShapeField:
        """A field for library shapes alone, which never waits for a GPU.

        It is this field itself where some library shape has no table.
        """
        tables = self._tables_in_use()
        return self if tables.slots is not None else _LibraryField(self.decoder, tables.packed)

    @torch.no_grad()
    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """Signed distances.

        Args:
            points: (..., N, 3) object frame, metres.
            shapes: (...), broadcasts against the leading dimensions of `points`.

        Returns:
            (..., N) metres, negative inside.
        """

        def decoded(points: Tensor, codes: Tensor) -> tuple[Tensor]:
            return (self.decoder.sdf(points, codes),)

        if self._never_waits(points):
            return self._selected(points, shapes, decoded)[0]
        tables = self._tables_of(points, shapes)
        if tables is not None:
            return tables.packed.sdf(points, tables.of(shapes.index))
        return self._with_decoder(points, shapes, decoded)[0]

    @torch.no_grad()
    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """Signed distances and their spatial gradients; see `sdf`."""
        if self._never_waits(points):
            return SignedDistance(*self._selected(points, shapes, self.decoder.sdf_and_gradient))
        tables = self._tables_of(points, shapes)
        if tables is not None:
            return tables.packed.sdf_and_gradient(points, tables.of(shapes.index))
        return SignedDistance(*self._with_decoder(points, shapes, self.decoder.sdf_and_gradient))

    def _never_waits(self, points: Tensor) -> bool:
        """Whether batches on the points' device keep their shapes, and all tables are made."""
        return has_fixed_shapes(points) and self._tables_in_use().slots is None

    def _selected(
        self,
        points: Tensor,
        shapes: Shapes,
        decoded: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """Distances, and gradients, of all rows from the tables and from the decoder, then chosen.

        A GPU decodes the rows of library shapes sooner than the host has their number.
        """
        found = self._tables.packed.sdf_and_gradient(points, shapes.index.clamp_min(0))
        tabulated = shapes.index >= 0
        return tuple(
            torch.where(tabulated.view(*tabulated.shape, *[1] * dims), table, part)
            for dims, table, part in zip((1, 2), found, decoded(points, shapes.codes), strict=False)
        )

    def _tables_in_use(self) -> _Tables:
        if not self._prepared:
            self.prepare()
        return self._tables

    def _tables_of(self, points: Tensor, shapes: Shapes) -> _Tables | None:
        """The tables, where all of the shapes have one; may make one that is missing."""
        tables = self._tables_in_use()
        if tables.slots is not None:
            tables = self._count(points, shapes.index)
        return tables if bool((tables.of(shapes.index) >= 0).all()) else None

    def _with_decoder(
        self,
        points: Tensor,
        shapes: Shapes,
        decoded: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """Distances, and gradients, from the tables and, where there is none, from the decoder."""
        tables = self._tables
        slots = tables.of(shapes.index)
        batch = torch.broadcast_shapes(points.shape[:-2], slots.shape)
        rows = (slots.expand(batch).reshape(-1) < 0).nonzero().squeeze(-1)
        if len(rows) == batch.numel():
            return decoded(points, shapes.codes)
        found = tables.packed.sdf_and_gradient(points, slots.clamp_min(0))
        at = points.expand(*batch, *points.shape[-2:]).flatten(0, -3)[rows]
        codes = shapes.codes.expand(*batch, -1).reshape(-1, shapes.codes.shape[-1])[rows]
        return tuple(
            table.flatten(0, len(batch) - 1).index_copy(0, rows, part).view_as(table)
            for table, part in zip(found, decoded(at, codes), strict=False)
        )

    def _count(self, points: Tensor, index: Tensor) -> _Tables:
        """The tables in use, after points of shapes were counted.

        A shape whose points cost the decoder as much as a table would gets one: then no sequence of
        evaluations takes more than twice the time that it had to. The next table waits until the
        decoder has again spent as much: then several new shapes hold up several frames a little,
        and not one frame for long.
        """
        batch = torch.broadcast_shapes(points.shape[:-2], index.shape)
        index = index.expand(batch)
        used = torch.bincount(index[index >= 0], minlength=len(self._library)).cpu()
        with self._lock:
            if self._tables.slots is None:
                return self._tables  # another thread has just made the last table
            for shape in used.nonzero().squeeze(-1).tolist():
                if shape in self._kept:
                    self._kept.move_to_end(shape)
                elif shape not in self._not_possible:
                    self._decoded[shape] += int(used[shape]) * points.shape[-2]
                    self._unpaid += int(used[shape]) * points.shape[-2]
            due = [shape for shape, count in self._decoded.items() if count >= _WORTH_POINTS][:1]
            if due and self._unpaid >= _WORTH_POINTS:
                self._unpaid = 0
                self._keep(due)
                self._decoded.pop(due[0])
                if due[0] not in self._kept:
                    self._not_possible.add(due[0])
            return self._tables

    def _keep(
        self,
        indices: Sequence[int],
        on_shape: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Make or load tables; beyond the memory allowed, drop the least recently used ones."""
        threads = torch.get_num_threads() if self._library.codes.device.type == "cpu" else 1
        with ThreadPoolExecutor(threads, "shape tables", set_own_cpu_threads, (1,)) as pool:
            jobs = {pool.submit(self._table, index): index for index in indices}
            for done, job in enumerate(as_completed(jobs), start=1):
                if len(job.result().level) > 0:
                    self._kept[jobs[job]] = job.result()
                else:
                    self._not_possible.add(jobs[job])
                on_shape(done, len(jobs))
        self._tables = self._packed()
        if self._tables.slots is None:
            self._kept.clear()  # all shapes are packed, for good: 21 MB for those of YCB-Video

    def _packed(self) -> _Tables:
        total = sum(packed_bytes(table) for table in self._kept.values())
        while total > self._largest_bytes:
            total -= packed_bytes(self._kept.popitem(last=False)[1])
        order, device = sorted(self._kept), self._library.codes.device
        packed = PackedTables.of([self._kept[index] for index in order], device)
        if len(order) == len(self._library):
            return _Tables(packed, None)
        slots = torch.full((len(self._library),), -1)
        slots[order] = torch.arange(len(order))
        return _Tables(packed, slots.to(device))

    def _table(self, index: int) -> ShapeTable:
        """A library shape's table on the CPU; without leaves where one would not be accurate."""
        library = self._library
        shape = library.codes[index], library.lower[index], library.upper[index]
        key = table_key(self._checksum, *shape)
        table = self._cache.load(key) if self._cache is not None else None
        if table is None:
            table = tabulate(self.decoder, *shape)
            error = table_error(self.decoder, shape[0], table)
            if error > ACCURACY_M:
                _log.warning(
                    "%s is evaluated by the decoder: a table would be %.2f mm off",
                    library.names[index],
                    1e3 * error,
                )
                table = table.without_leaves()
            table = ShapeTable(*(part.cpu() for part in table))
            if self._cache is not None:
                self._cache.save(key, table)
        return table


class _LibraryField(NamedTuple):
    """A field of library shapes that all have tables.

    Attributes:
        decoder: f_d.
        tables: of the library shapes, in their order.
    """

    decoder: ShapeDecoder
    tables: PackedTables

    @property
    def capture_key(self) -> PackedTables:
        """See `ShapeField`."""
        return self.tables

    def for_library(self) -> ShapeField:
        """See `ShapeField`."""
        return self

    @torch.no_grad()
    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """See `ShapeField`."""
        return self.tables.sdf(points, shapes.index)

    @torch.no_grad()
    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """See `ShapeField`."""
        return self.tables.sdf_and_gradient(points, shapes.index)
