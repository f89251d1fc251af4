"""Reads character vectors from an R package's lazy-load database (data/Rdata.rdx and Rdata.rdb).

The .rdx is a compressed R serialisation of list(variables = {name: c(offset, length)}, ...); each
record of the .rdb is a big-endian length of the plain bytes and a zlib stream of one serialised
object. Only the item types that such data holds are read; any other is an error.
"""

import gzip
import pathlib
import struct
import zlib

NIL, GLOBAL_ENV, REFERENCE = 254, 253, 255
SYMBOL, PAIRLIST, CHARS, LOGICAL, INTEGER, REAL, STRINGS, VECTOR = 1, 2, 9, 10, 13, 14, 16, 19
HAS_ATTRIBUTES, HAS_TAG = 1 << 9, 1 << 10


class Unserializer:
    """XDR form ("X\\n") of R's serialisation, versions 2 and 3."""

    def __init__(self, data):
        self.data, self.at, self.references = data, 0, []
        if self.take(2) != b"X\n":
            raise ValueError("not an XDR serialisation")
        version = self.integer()
        self.take(8)  # version of the writer, least version of a reader
        if version == 3:
            self.take(self.integer())  # the native encoding's name
        elif version != 2:
            raise ValueError(f"serialisation version {version}; 2 and 3 are accepted")

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("serialisation is truncated")
        self.at += count
        return self.data[self.at - count:self.at]

    def integer(self):
        return struct.unpack(">i", self.take(4))[0]

    def pairlist(self, flags):
        """Attributes and argument lists; a dictionary by tag."""
        result = {}
        while flags & 255 == PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self.item()
            tag = self.item() if flags & HAS_TAG else ""
            result[tag] = self.item()
            flags = self.integer()
        if flags & 255 != NIL:
            raise ValueError("pairlist does not end in NULL")
        return result

    def item(self):
        flags = self.integer()
        kind = flags & 255
        if kind in (NIL, GLOBAL_ENV):
            return None
        if kind == REFERENCE:
            return self.references[(flags >> 8) - 1]
        if kind == PAIRLIST:
            return self.pairlist(flags)
        if kind == SYMBOL:
            self.references.append(self.item())
            return self.references[-1]
        if kind == CHARS:
            length = self.integer()
            if length == -1:
                return None  # NA
            return self.take(length).decode("latin-1" if flags & (1 << 14) else "utf-8")
        count = self.integer()
        if kind in (LOGICAL, INTEGER):
            value = list(struct.unpack(f">{count}i", self.take(4 * count)))
        elif kind == REAL:
            value = list(struct.unpack(f">{count}d", self.take(8 * count)))
        elif kind in (STRINGS, VECTOR):
            value = [self.item() for _ in range(count)]
        else:
            raise ValueError(f"item type {kind} is not expected in text data")
        if flags & HAS_ATTRIBUTES:
            names = self.pairlist(self.integer()).get("names")
            if kind == VECTOR and names:
                return dict(zip(names, value))
        return value


def read_database(folder):
    """{name: [string, …]} of every object in the package's data folder."""
    folder = pathlib.Path(folder)
    index = Unserializer(gzip.decompress((folder / "Rdata.rdx").read_bytes())).item()
    records = (folder / "Rdata.rdb").read_bytes()
    objects = {}
    for name, (offset, length) in sorted(index["variables"].items()):
        record = records[offset:offset + length]
        plain = zlib.decompress(record[4:])
        if len(plain) != struct.unpack(">I", record[:4])[0]:
            raise ValueError(f"{name}: length differs from the record's")
        objects[name] = Unserializer(plain).item()
    return objects
