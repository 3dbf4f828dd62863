"""Questions from Microsoft Learn FAQ files: each entry with its answer, and the documents that the answer links as gold."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from rag_vs_ft.corpus.front_matter import BrokenYaml, load_yaml
from rag_vs_ft.corpus.markdown.learn import clean_text
from rag_vs_ft.corpus.readers.faq import is_faq
from rag_vs_ft.corpus.sources import Options, read_source
from rag_vs_ft.corpus.store import open_corpus
from rag_vs_ft.corpus.text import NotText, decode, normalise
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.mining.common import Mined, question_id
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Question
from rag_vs_ft.settings import Home

_LINK = re.compile(r"\]\(\s*<?([^()<>\s]+(?:\([^()\s]*\)[^()<>\s]*)*)>?(?:\s+[\"'][^\"']*[\"'])?\s*\)|\bhref=[\"']([^\"']+)")
_HOSTS = ("learn.microsoft.com", "docs.microsoft.com")
_LOCALE = re.compile(r"^/[a-z]{2}-[a-z]{2}(?=/)")


@dataclass(slots=True)
class _Targets:
    """What links can lead to: ids of documents, and the documents of each page (path of its address, case folded)."""

    ids: set[str] = field(default_factory=set)
    pages: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, document_id: str, url: str) -> None:
        self.ids.add(document_id)
        if url:
            parts = urlsplit(url)
            self.pages[_page(parts.path)].setdefault(parts.query, document_id)

    def resolve(self, link: str, path: str) -> tuple[str, str | None]:
        """The kind of a link in the file at `path`, and the document it leads to; anchors are dropped."""
        parts = urlsplit(link)
        if parts.scheme in ("http", "https") and parts.netloc.lower() not in _HOSTS:
            return "to other sites", None
        if parts.scheme not in ("", "http", "https") or not parts.path:
            return "within the page", None
        target = unquote(parts.path).replace("\\", "/")
        if parts.netloc or target.startswith("/"):
            views = self.pages.get(_page(target), {})
            # An address without a view is that of the newest one, whose document has none in its address either.
            return "site-absolute", views.get(parts.query) or views.get("") or next(iter(views.values()), None)
        folder = posixpath.dirname(path)
        roots = [folder]
        kind = "relative"
        if target.startswith("~/"):
            # The root of a docset is some folder above the file.
            kind, target = "from the docset's root (~/)", target[2:]
            above = folder.split("/")
            roots = ["/".join(above[:depth]) for depth in range(len(above) + 1)]
        for root in roots:
            name = posixpath.normpath(posixpath.join(root, target))
            for candidate in (name, f"{name}.md", f"{name}/index.md"):
                if candidate in self.ids:
                    return kind, candidate
        return kind, None


def _page(path: str) -> str:
    """The path of a page's address without locale, ending and trailing slash, so that two spellings of it are one."""
    return _LOCALE.sub("", path.casefold()).removesuffix("/").removesuffix(".md").removesuffix("/index")


def mine_faq(corpus: str, home: Home, *, progress: Progress = silent) -> Mined:
    """The entries of the FAQ files that lie in the corpus's source, with the answers as clean Markdown.

    The corpus itself leaves these files out, so the source is read again. Raises UserError when the corpus holds them (the
    questions would not be held out), when the source is gone, or when there is no FAQ in it.
    """
    opened = open_corpus(corpus, home)
    if opened.manifest.include_faq:
        raise UserError(
            f"corpus {corpus!r} was added with its FAQ files, so questions from them are not held out",
            f"add it without --include-faq: rag-vs-ft corpus add NAME {opened.manifest.source}",
        )
    targets = _Targets()
    for document in opened.documents():
        targets.add(document.id, document.url)
    reading = read_source(opened.manifest.source, Options(home, progress=progress))

    funnel = Funnel()
    links: Counter[str] = Counter()
    questions: dict[str, Question] = {}
    files = 0
    unreadable: list[str] = []
    for file in reading.files:
        data = reading.bytes_of(file.path) if file.kind == "faq" else None
        if data is None or not is_faq(data):
            continue
        files += 1
        entries = _entries(data)
        if entries is None:
            unreadable.append(file.path)
            continue
        for question, answer in entries:
            funnel.candidates += 1
            if not question or not answer:
                funnel.drop("no question or no answer")
                continue
            gold: dict[str, None] = {}
            for link in dict.fromkeys(first or second for first, second in _LINK.findall(answer)):
                kind, found = targets.resolve(link, file.path)
                links[f"links {kind}: {'to a document' if found else 'leading nowhere in the corpus'}"] += 1
                if found:
                    gold[found] = None
            clean = clean_text(answer, file.path, reading.text_of)
            mined = Question(
                id=question_id("faq", file.path, question),
                question=clean_text(question),
                answer=clean,
                gold_documents=tuple(gold),
                answerable=True,
                source=f"faq:{file.path}",
                tags=("faq",),
            )
            if not clean:
                funnel.drop("no question or no answer")
            elif mined.id in questions:
                funnel.drop("repeated in the same file")
            else:
                questions[mined.id] = mined
        progress("read FAQ files", files)
    if not questions:
        seen = f"{files} FAQ files, none of which could be read ({', '.join(unreadable[:3])})" if files else "no FAQ files"
        raise UserError(
            f"{seen} in the source of corpus {corpus!r} ({opened.manifest.source})",
            "an FAQ file is YAML that begins with `### YamlMime:FAQ` and holds sections of questions with answers",
        )
    kept = tuple(questions.values())
    counts = {
        "FAQ files": files,
        "FAQ files that could not be read": len(unreadable),
        **funnel.counts(len(kept)),
        "kept with gold documents": sum(bool(question.gold_documents) for question in kept),
        **dict(sorted(links.items())),
    }
    return Mined(kept, counts, {})


def _entries(data: bytes) -> list[tuple[str, str]] | None:
    """The questions and answers of an FAQ file as written; None when it is not an FAQ."""
    try:
        faq = load_yaml(normalise(decode(data)[0]))
    except (BrokenYaml, NotText):
        return None
    sections = faq.get("sections") if isinstance(faq, dict) else None
    if not isinstance(sections, list):
        return None
    entries = []
    for section in sections:
        for entry in (section.get("questions") or []) if isinstance(section, dict) else []:
            if isinstance(entry, dict):
                entries.append((" ".join(str(entry.get("question") or "").split()), str(entry.get("answer") or "")))
    return entries
