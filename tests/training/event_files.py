"""Reads what TensorBoard would show, from the event files of a folder."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(folder: Path) -> Iterator[Event]:
    """Yields the records of all files, in the order they were begun."""
    for path in sorted(folder.iterdir()):
        data, position = path.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            # A checksum of four bytes follows the length, and one the record.
            start = position + 12
            yield Event.FromString(data[start : start + length])
            position = start + length + 4


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Returns (step, name, value) of every scalar."""
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def images(folder: Path) -> list[tuple[int, str, bytes]]:
    """Returns (step, name, PNG) of every picture."""
    return [
        (event.step, value.tag, value.image.encoded_image_string)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("image")
    ]
