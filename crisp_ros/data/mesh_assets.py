"""Files that a mesh names: material libraries, textures and buffers, found as people move them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from trimesh.resolvers import Resolver

MATERIALS = "materials of this mesh"  # the name under which all of an OBJ's material files are read
_MAP_ARGUMENTS = {
    **dict.fromkeys(("-blendu", "-blendv", "-cc", "-clamp", "-imfchan", "-type"), 1),
    **dict.fromkeys(("-bm", "-boost", "-texres"), 1),
    "-mm": 2,
    **dict.fromkeys(("-o", "-s", "-t"), 3),  # the second and the third may be missing
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class MeshAssets(Resolver):
    """Finds the files that a mesh refers to, for trimesh's readers.

    A name is looked for in the mesh's folder, in the folders in it and in those next to it.
    Backslashes separate folders too, the case of letters does not matter, and of a path that is not
    here only the file's name counts, so that a model packed on another machine keeps its textures.

    Args:
        path: of the mesh.
        libraries: names of an OBJ's material files, see `MATERIALS`.

    Attributes:
        missing: names that were asked for in vain, in that order.
    """

    def __init__(self, path: Path, libraries: Iterable[str] = ()) -> None:
        self.folder = path.resolve().parent
        self.file_name = path.name
        self.missing: list[str] = []
        self._libraries = tuple(libraries)

    def get(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        if name == MATERIALS:
            return self._materials().encode()
        path = self._found(name)
        if path is None:
            if name not in self.missing:
                self.missing.append(name)
            raise FileNotFoundError(name)
        return path.read_bytes()

    def keys(self) -> list[str]:
        """Names of the files in the mesh's folder."""
        return [p.name for p in self.folder.iterdir() if p.is_file()]

    def write(self, name: str, data: Any) -> None:
        """Not allowed: reading a mesh writes nothing. Raises PermissionError."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> MeshAssets:
        """The files as seen from a folder in the mesh's folder."""
        return MeshAssets(self.folder / namespace / self.file_name)

    def _found(self, name: str) -> Path | None:
        wanted = name.strip().strip("\"'").replace("\\", "/")
        for spelled in dict.fromkeys((wanted, unquote(wanted))):
            parts = [p for p in spelled.split("/") if p not in ("", ".")]
            if not parts:
                continue
            relative = _descend(self.folder, parts)
            if relative is not None and relative.is_relative_to(self.folder.parent):
                return relative
            for folder in self._folders():
                found = _descend(folder, parts[-1:])
                if found is not None:
                    return found
        return None

    def _folders(self) -> Iterator[Path]:
        """Yield folders to which a file may have been moved: here, in here, next to here."""
        yield self.folder
        yield from _subfolders(self.folder)
        for sibling in _subfolders(self.folder.parent):
            yield sibling
            if sibling != self.folder and sibling.name.lower() in ("materials", "textures"):
                yield from _subfolders(sibling)

    def _materials(self) -> str:
        """All material files as one, with each texture's options taken out of its name."""
        lines = []
        for library in self._libraries:
            one_file = self._found(library) is not None
            for name in [library] if one_file else library.split():
                try:
                    lines += decoded_text(self.get(name)).splitlines()
                except FileNotFoundError:
                    continue
        return "\n".join(line for raw in lines for line in _plain_map(raw))


def decoded_text(content: bytes) -> str:
    """Text of a file of unknown encoding: UTF-8, with or without its mark, else Latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _plain_map(line: str) -> list[str]:
    """A line of a material file as trimesh understands it: of a colour texture only its name.

    The name, the size and offset that options state and the options themselves follow as
    `texture_name`, `texture_placement` and `texture_options`, which trimesh keeps.
    """
    words = line.split()
    if not words or words[0].lower() != "map_kd":
        return [line]
    rest = line.strip()[len(words[0]) :].strip()
    placement = {"-s": [1.0, 1.0], "-o": [0.0, 0.0]}
    options = []
    while (option := rest.split(maxsplit=1)[0:1]) and option[0].lower() in _MAP_ARGUMENTS:
        key = option[0].lower()
        rest = rest[len(key) :].strip()
        options.append(key)
        for index in range(_MAP_ARGUMENTS[key]):
            word, _, after = rest.partition(" ")
            if _MAP_ARGUMENTS[key] == 3 and not _NUMBER.fullmatch(word):
                break
            options.append(word)
            if key in placement and index < 2:
                placement[key][index] = float(word)
            rest = after.strip()
    if not rest:
        return []
    values = " ".join(str(v) for v in (*placement["-s"], *placement["-o"]))
    lines = [f"map_Kd {rest}", f"texture_name {rest}", f"texture_placement {values}"]
    return [*lines, f"texture_options {' '.join(options)}"] if options else lines


def _descend(folder: Path, parts: list[str]) -> Path | None:
    """Return the file at a path relative to a folder, ignoring case."""
    for part in parts:
        if part == "..":
            folder = folder.parent
            continue
        exact = folder / part
        if not exact.exists():
            exact = next((p for p in _listed(folder) if p.name.lower() == part.lower()), exact)
        folder = exact
    return folder.resolve() if folder.is_file() else None


def _subfolders(folder: Path) -> list[Path]:
    return [p for p in _listed(folder) if p.is_dir()]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a folder that may not be looked into
        return []
