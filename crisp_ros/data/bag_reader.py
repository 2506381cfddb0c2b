"""Messages of bags, read without ROS: rosbag2 folders and files, and ROS 1 bags.

What is damaged is left out and reported, and reading goes on behind it. What cannot be read at all
is refused with what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from crisp_ros.data.recorded_frame import RecordingError

LABEL_INFO_TYPE = "vision_msgs/msg/LabelInfo"
_LABEL_INFO_FIELDS = (
    "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
)
_VISION_CLASS_FIELDS = "uint16 class_id\nstring class_name"
_KINDS = "a rosbag2 folder with metadata.yaml, an .mcap or .db3 file, or a ROS 1 .bag"
_STORAGES = (".mcap", ".db3")
_FIRST_STEP_NS = 1_000_000  # looked for readable messages behind damage, and its precision
_MOST_DAMAGES = 200  # of one reading, before the rest is given up
# What a reader complains of, and what to do then; the first that is contained counts.
_REMEDIES = {
    "Profile is not ros2": "its MCAP header does not say that it is of ROS 2: rewrite it with "
    "`ros2 bag convert -i IN -o OUT.yaml`",
    "end magic": "the recording was broken off: `mcap recover IN -o OUT.mcap`",
    "MCAP footer": "the recording was broken off: `mcap recover IN -o OUT.mcap`",
    "Truncated record": "the file was cut: copy it again, or `mcap recover IN -o OUT.mcap`",
    "Storage plugin": "its metadata.yaml names a storage that is not sqlite3 or mcap: "
    "`ros2 bag reindex FOLDER`, or name the .mcap or .db3 file itself",
    "Serialization format": "its messages are not serialised as CDR: convert them with "
    "`rosbags-convert`, or record them with `ros2 bag record`",
    "Compression format": "decompress it with `ros2 bag convert -i IN -o OUT.yaml`",
    "files are missing": "copy the whole folder",
    "not supported": "`pip install -U rosbags`, or `ros2 bag convert -i IN -o OUT.yaml`",
    "metadata": "`ros2 bag reindex FOLDER` writes its metadata.yaml again",
    "not a database": "the file is damaged: copy it again",
    "malformed": "the file is damaged: `sqlite3 IN.db3 .recover | sqlite3 OUT.db3`",
    "index": "the recording was broken off: `rosbag reindex IN.bag`",
}


class BagMessage(NamedTuple):
    """A message of a bag.

    Attributes:
        topic: its topic.
        time_ns: when it was recorded.
        message: with the fields of its type.
    """

    topic: str
    time_ns: int
    message: Any


class Damage(NamedTuple):
    """A part of a bag that cannot be read.

    Attributes:
        topic: of the message, "" where it is not known.
        reason: why.
    """

    topic: str
    reason: str


OnDamage = Callable[[Damage], None]


class BagReader:
    """A bag, opened and checked; its messages are read when asked for.

    Args:
        path: a rosbag2 folder, an .mcap or .db3 file, or a ROS 1 .bag.

    Attributes:
        types: message type by topic, of the topics that hold a message.
        counts: messages by topic.

    Raises:
        RecordingError: not a bag, or not to be read; says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise RecordingError(f"{path}: no such recording")
        self._files = _bag_files(path)
        self.types: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        with self._opened() as readers:
            for connection in (c for reader in readers for c in reader.connections):
                if connection.msgcount > 0:
                    self.types[connection.topic] = connection.msgtype
                    count = self.counts.get(connection.topic, 0)
                    self.counts[connection.topic] = count + connection.msgcount

    def messages(self, topics: Sequence[str], on_damage: OnDamage) -> Iterator[BagMessage]:
        """Read the messages of some topics in the order in which they were recorded.

        Args:
            topics: names.
            on_damage: called with each message, or part of the bag, that is left out.
        """
        with self._opened() as readers:
            for reader in readers:
                wanted = [c for c in reader.connections if c.topic in topics]
                if not wanted:
                    continue
                deserialise = _deserialiser(reader, wanted)
                for connection, time_ns, raw in _resumed(reader, wanted, on_damage):
                    try:
                        message = deserialise(raw, connection.msgtype)
                    except Exception as error:  # any, of bytes that are no such message
                        on_damage(Damage(connection.topic, _undecodable(raw, error)))
                        continue
                    yield BagMessage(connection.topic, time_ns, message)

    def _opened(self) -> _Opened:
        return _Opened(self.path, self._files)


class _Opened:
    """Context of the readers of a bag's files, in the order of their times."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self._path, self._files, self._stack = path, files, ExitStack()

    def __enter__(self) -> list[Any]:
        readers = []
        try:
            for file in self._files:
                kind = rosbag1.Reader if file.suffix == ".bag" else rosbag2.Reader
                readers.append(self._stack.enter_context(kind(file)))
        except Exception as error:  # the readers of the storages raise what they meet
            self._stack.close()
            raise RecordingError(_refusal(self._path, error)) from error
        return sorted(readers, key=lambda reader: reader.start_time)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@cache
def typestore() -> Any:
    """The messages of ROS 2 Jazzy that recordings hold, as rosbags knows them."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(_VISION_CLASS_FIELDS, "vision_msgs/msg/VisionClass"))
    store.register(get_types_from_msg(_LABEL_INFO_FIELDS, LABEL_INFO_TYPE))
    return store


def _bag_files(path: Path) -> list[Path]:
    """Return the files to open: the path, or those in a folder with a bad metadata.yaml."""
    if not path.is_dir():
        return [path]
    storages = sorted(p for p in path.iterdir() if p.suffix in _STORAGES)
    if (path / "metadata.yaml").is_file():
        try:
            with rosbag2.Reader(path):
                return [path]
        except Exception:  # files may be readable all the same
            return storages or [path]
    bags = storages or sorted(path.glob("*.bag"))
    if not bags:
        raise RecordingError(f"{path}: not a recording; expected {_KINDS}")
    return bags


def _refusal(path: Path, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if not str(error) else str(error)
    remedy = next((advice for words, advice in _REMEDIES.items() if words in text), "")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        return f"{path}: not a recording; expected {_KINDS}, and its files cannot be read ({text})"
    return f"{path}: not a readable recording ({text}); {remedy or f'expected {_KINDS}'}"


def _deserialiser(reader: Any, connections: Sequence[Any]) -> Callable[[bytes, str], Any]:
    """Return a deserialiser, with the message definitions of the bag if it has any."""
    is_ros1 = isinstance(reader, rosbag1.Reader)
    known = get_typestore(Stores.ROS1_NOETIC) if is_ros1 else typestore()
    own: dict[str, Any] = {}
    for connection in connections:
        definition = connection.msgdef
        try:
            if not definition.data.strip():
                continue  # of no content, or a message without fields
            if definition.format == MessageDefinitionFormat.MSG:
                own.update(get_types_from_msg(definition.data, connection.msgtype))
            elif definition.format == MessageDefinitionFormat.IDL:
                own.update(get_types_from_idl(definition.data))
        except Exception:  # a definition that cannot be parsed: the usual one has to do
            continue
    if any(known.fielddefs.get(name) != fields for name, fields in own.items()):
        store = get_typestore(Stores.EMPTY)
        store.register({**known.fielddefs, **own})
        known = store
    return known.deserialize_ros1 if is_ros1 else known.deserialize_cdr


def _undecodable(raw: bytes, error: Exception) -> str:
    if len(raw) < 4:
        return f"a message of {len(raw)} bytes"
    return f"a message that cannot be decoded ({error})"


def _resumed(
    reader: Any, connections: Sequence[Any], on_damage: OnDamage
) -> Iterator[tuple[Any, int, bytes]]:
    """All messages that can be read; behind a damaged part, reading begins again."""
    start: int | None = None
    for _ in range(_MOST_DAMAGES):
        last: int | None = None
        messages = reader.messages(connections=list(connections), start=start)
        try:
            for item in messages:
                last = item[1]
                yield item
            return
        except Exception as error:  # of decompression, of the storage, of a record's size
            failed = last + 1 if last is not None else reader.start_time if start is None else start
            start = _readable_from(reader, connections, failed)
            on_damage(Damage("", _damage_text(error, failed, start)))
            if start is None:
                return
    on_damage(Damage("", "too many damaged parts: the rest was not read"))


def _damage_text(error: Exception, failed_ns: int, resumed_ns: int | None) -> str:
    until = "the end" if resumed_ns is None else f"{(resumed_ns - failed_ns) / 1e9:.3f} s later"
    return f"the bag is damaged ({error}) from {failed_ns / 1e9:.3f} s to {until}"


def _readable_from(reader: Any, connections: Sequence[Any], failed_ns: int) -> int | None:
    """The time behind a damaged part from which messages can be read; None where there is none."""

    def readable(start: int) -> bool:
        try:
            messages = reader.messages(connections=list(connections), start=start)
            return next(iter(messages), None) is not None
        except Exception:  # any, as in reading itself
            return False

    step = _FIRST_STEP_NS
    while not readable(failed_ns + step):
        if failed_ns + step > reader.end_time:
            return None
        step *= 2
    low, high = failed_ns + step // 2, failed_ns + step
    while high - low > _FIRST_STEP_NS:
        middle = (low + high) // 2
        low, high = (low, middle) if readable(middle) else (middle, high)
    return high
