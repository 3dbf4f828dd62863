"""What a dialect of Markdown is, and GitHub's, which adds nothing to what all share."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property

from markdown_it import MarkdownIt
from markdown_it.token import Token

from rag_vs_ft.corpus.front_matter import iso_date, scalar, split_front_matter
from rag_vs_ft.corpus.markdown import arrange
from rag_vs_ft.corpus.markdown.blocks import Block, code_block, code_span
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.parser import TooMuchWork, new_parser
from rag_vs_ft.corpus.markdown.writer import write
from rag_vs_ft.corpus.readers import Content, LeftOut, Read
from rag_vs_ft.corpus.text import one_line


def is_include(path: str) -> str:
    """The reason for which a part that other pages include is no document of its own, or ""."""
    return "include (read where it is included)" if "includes" in path.lower().split("/")[:-1] else ""


def folders_above(path: str) -> list[str]:
    """The folders that a file lies in, innermost first, and "" for the root of the source; at most twelve."""
    folders = path.split("/")[:-1]
    return ["/".join(folders[:depth]) for depth in range(len(folders), -1, -1)][:12]


_CODE_TITLE = re.compile(r"""\btitle=(?:"([^"\n]*)"|'([^'\n]*)'|([^\s"'{}]+))""")


def titled_code(token: Token) -> list[Block]:
    """A code block without the settings in its info string; its title, often a file's name, stands above it."""
    if token.type == "code_block":
        return [code_block(token.content)]
    title = next((group for match in [_CODE_TITLE.search(token.info)] if match for group in match.groups() if group), "")
    language = re.match(r"\{?[ \t]*\.?([\w#+.-]+)(?![\w=])", token.info.strip())
    code = Block("code", token.content, info=language[1] if language else "", fence=token.markup)
    return [Block("paragraph", f"{code_span(title)}:"), code] if title else [code]


class Dialect:
    """GitHub Markdown, and what a dialect can change of it.

    `marks` is searched in a file's normalised text, and `configuration` holds the names of files that only this dialect's site
    generator reads: both are how a folder's dialect is recognised. `components` says that unknown tags are components, of which
    only the content shows; else they are placeholders such as `<resource-group>`, and are text. `attribute_lists` says that
    `{#id .class}` after a heading, a link or a paragraph is markup.
    """

    name = "github"
    title = "GitHub Markdown"
    marks: re.Pattern[str] | None = None
    configuration: tuple[str, ...] = ()
    components = False
    attribute_lists = False

    def passed_over(self, path: str) -> str:
        """The reason for which a Markdown file is not a document of its own, or ""."""
        return ""

    def facts(self, path: str) -> Mapping[str, str]:
        """Fields of a document that follow from where it lies: url, service."""
        return {}

    def clean(self, raw: str, path: str, read: Read) -> Content:
        """Clean one document.

        `path` is where it lies below the root of its source (POSIX), and `read` gives the text of another file below that root
        or None; includes reach nothing else. Raises LeftOut for a text that would take far longer than its size warrants.
        """
        notes: Counter[str] = Counter()
        metadata, body = split_front_matter(raw, notes)
        builder = Builder(self, notes, read)
        try:
            blocks = self.arrange(builder.document(body, Page(path)), notes)
        except TooMuchWork:
            raise LeftOut("Markdown that takes too long to read (nesting)") from None
        text, headings = write(blocks)
        first = next((heading.text for heading in headings if heading.level == 1), "")
        return Content(
            text=text,
            title=first or self.page_title(scalar(metadata, "title")),
            headings=headings,
            description=scalar(metadata, "description"),
            service=scalar(metadata, "ms.service", "ms.services", "service", "services", "ms.prod"),
            date=iso_date(metadata),
            notes=notes,
        )

    def page_title(self, title: str) -> str:
        """The title of the front matter without what a site adds to it."""
        return title

    # --- what the builder asks ---

    @cached_property
    def _parser(self) -> MarkdownIt:
        parser = new_parser()
        self.extend(parser)
        return parser

    def parser(self) -> MarkdownIt:
        """The parser with the dialect's rules."""
        return self._parser

    def extend(self, parser: MarkdownIt) -> None:
        """Add the dialect's rules to a parser."""

    def prepare(self, body: str, page: Page, builder: Builder) -> str:
        """The body of a file before it is parsed."""
        return body

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        """The blocks that a directive stands for."""
        return []

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        """The text that a directive in a line stands for."""
        return ""

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        """The blocks that a fenced or indented code block stands for."""
        if token.type == "code_block":
            return [code_block(token.content)]
        info = token.info.replace("`", "") if token.markup.startswith("`") else token.info
        return [Block("code", token.content, info=one_line(info), fence=token.markup)]

    def candidates(self, target: str, page: Page) -> list[str]:
        """Where an included file may lie, by path below the root of the source, best first."""
        return [posixpath.join(posixpath.dirname(page.path), target)]

    def arrange(self, blocks: list[Block], notes: Counter[str]) -> list[Block]:
        """Put marks, alerts and tabs in order."""
        return arrange.arrange(blocks, notes)
