"""The zip archives that office files and books are, read with limits."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

from rag_vs_ft.corpus.readers import Damaged, LeftOut

MAX_UNPACKED = 400_000_000
MAX_PART = 100_000_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class Archive:
    """The parts of a zip file. Raises LeftOut for one that is damaged, encrypted, or unpacks to too much."""

    def __init__(self, data: bytes, title: str) -> None:
        self.title = title
        if data.startswith(_OLE):
            raise LeftOut(f"encrypted {title}, or of the format before 2007 (save it without a password, in the newer format)")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._sizes = {entry.filename: entry.file_size for entry in self._zip.infolist()}
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise Damaged(title, f"{type(error).__name__}: {error}") from error
        if sum(self._sizes.values()) > MAX_UNPACKED:
            raise LeftOut(f"unpacks to more than {MAX_UNPACKED // 1_000_000} MB")

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    def names(self) -> list[str]:
        """The parts' names."""
        return list(self._sizes)

    def read(self, name: str) -> bytes:
        """The bytes of a part."""
        try:
            with self._zip.open(name) as part:
                data = part.read(MAX_PART + 1)
        except Exception as error:  # zipfile lets through what its decompressors raise
            raise Damaged(self.title, f"{name}: {error}") from error
        if len(data) > MAX_PART:
            raise LeftOut(f"unpacks to more than {MAX_PART // 1_000_000} MB")
        return data

    def part(self, name: str) -> ElementTree.Element | None:
        """A part that a document can do without: None when it is not there or damaged."""
        try:
            return self.xml(name) if name in self else None
        except LeftOut:
            return None

    def xml(self, name: str) -> ElementTree.Element:
        """A part that is XML; entities of its own, by which a small file could become a large one, are refused."""
        data = self.read(name)
        if b"<!ENTITY" in data:
            raise Damaged(self.title, f"{name}: it defines entities")
        try:
            return ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise Damaged(self.title, f"{name}: {error}") from error
