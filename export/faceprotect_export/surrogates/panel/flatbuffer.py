"""As much of FlatBuffers as reading a file of known schema needs: tables, vectors, strings. Nothing is executed.

A table begins with the distance back to its list of fields; fields are named by their slot there (4, 6, 8, ...), as in the schema's order.
Format: the FlatBuffers documentation, "FlatBuffer Internals".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table at byte ``at`` of ``data``; reading raises struct.error where the file ends too early."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes, start: int) -> Table:
        """The table that the four bytes at ``start`` lead to."""
        return cls(data, _follow(data, start))

    def field(self, slot: int) -> int | None:
        """Where a field's value lies; None for one that was left out."""
        (back,) = struct.unpack_from("<i", self.data, self.at)
        listed = self.at - back
        (size,) = struct.unpack_from("<H", self.data, listed)
        if slot >= size:
            return None
        (offset,) = struct.unpack_from("<H", self.data, listed + slot)
        return self.at + offset if offset else None

    def number(self, slot: int, form: str = "i", default: int = 0) -> int:
        """An integer field; ``form`` as in the module struct."""
        at = self.field(slot)
        return default if at is None else int(struct.unpack_from(f"<{form}", self.data, at)[0])

    def vector(self, slot: int) -> tuple[int, int]:
        """First byte and length of a vector; (0, 0) for none."""
        at = self.field(slot)
        if at is None:
            return 0, 0
        begin = _follow(self.data, at)
        return begin + 4, struct.unpack_from("<I", self.data, begin)[0]

    def bytes(self, slot: int) -> bytes:
        """A vector of bytes."""
        begin, count = self.vector(slot)
        return self.data[begin : begin + count]

    def text(self, slot: int) -> str:
        """A string; empty for none."""
        return self.bytes(slot).decode()

    def integers(self, slot: int) -> list[int]:
        """A vector of int64."""
        begin, count = self.vector(slot)
        return list(struct.unpack_from(f"<{count}q", self.data, begin))

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables."""
        begin, count = self.vector(slot)
        return [Table(self.data, _follow(self.data, begin + 4 * index)) for index in range(count)]

    def texts(self, slot: int) -> list[str]:
        """A vector of strings."""
        found = []
        for entry in self.tables(slot):
            (length,) = struct.unpack_from("<I", self.data, entry.at)
            found.append(self.data[entry.at + 4 : entry.at + 4 + length].decode())
        return found


def _follow(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])
