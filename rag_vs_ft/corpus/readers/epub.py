"""EPUB books: the chapters in reading order."""

from __future__ import annotations

import posixpath
from collections import Counter
from urllib.parse import unquote
from xml.etree import ElementTree

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.readers import Content, FileContext, LeftOut
from rag_vs_ft.corpus.readers.archive import Archive
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.html import blocks_of, main_content
from rag_vs_ft.corpus.readers.text import text_of


def read(data: bytes, context: FileContext) -> Content:
    """The pages that the book's spine lists; each chapter is a place."""
    archive = Archive(data, "EPUB")
    if "META-INF/encryption.xml" in archive and b"EncryptedData" in archive.read("META-INF/encryption.xml"):
        raise LeftOut("encrypted EPUB (get one without copy protection)")
    container = archive.xml("META-INF/container.xml")
    package_path = next((node.get("full-path", "") for node in container.iter() if _name(node) == "rootfile"), "")
    package = archive.xml(package_path)
    title = next((node.text or "" for node in package.iter() if _name(node) == "title"), "")
    items = {node.get("id"): node for node in package.iter() if _name(node) == "item"}
    notes: Counter[str] = Counter()
    parts: list[tuple[str, list[Block]]] = []
    for node in package.iter():
        item = items.get(node.get("idref")) if _name(node) == "itemref" else None
        if item is None or "nav" in (item.get("properties") or "").split():
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(package_path), unquote(item.get("href") or "")))
        if path not in archive:
            notes["missing chapters"] += 1
            continue
        source, found = text_of(archive.read(path))
        notes.update(found)
        blocks = blocks_of(main_content(source), notes)
        name = next((block.plain or block.text for block in blocks if block.kind == "heading"), "")
        parts.append((f"chapter {name}" if name else "", blocks))
    return assemble(parts, notes, title.strip())


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
