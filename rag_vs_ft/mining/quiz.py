"""Questions from Microsoft Learn knowledge checks: YAML module units with `quiz: questions:`, the right choice marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag_vs_ft.corpus.front_matter import BrokenYaml, load_yaml
from rag_vs_ft.corpus.markdown.learn import clean_text
from rag_vs_ft.corpus.sources import MAX_PART_BYTES
from rag_vs_ft.corpus.text import NotText, decode, normalise
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.mining.common import Mined, guess_rates, question_id
from rag_vs_ft.records import Question


def mine_quiz(path: Path) -> Mined:
    """The multiple-choice questions of one knowledge-check file, or of those below a folder, in the authors' order of choices.

    The explanations of the choices say which one is right, so they are left out. Raises UserError when `path` cannot be read,
    and when there is no knowledge check in it.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.y*ml") if file.is_file() and not file.is_symlink())
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"{path} is not a file or a folder", "give a knowledge-check YAML file, or a folder that holds some")
    funnel = Funnel()
    questions: dict[str, Question] = {}
    checks = 0
    for file in files:
        entries = _entries(file)
        if entries is None:
            continue
        checks += 1
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        for entry in entries:
            funnel.candidates += 1
            question = _question(entry, name)
            if isinstance(question, str):
                funnel.drop(question)
            elif question.id in questions:
                funnel.drop("repeated in another file")
            else:
                questions[question.id] = question
    if not questions:
        found = f"{len(files)} YAML files, {checks} with a quiz, no question that can be used" if path.is_dir() else "no quiz"
        raise UserError(
            f"{path}: {found}" + "".join(f"; {count} {reason}" for reason, count in funnel.dropped.items()),
            "a knowledge check is YAML with quiz: questions:, each with content and choices of content and isCorrect",
        )
    kept = tuple(questions.values())
    counts = {"YAML files": len(files), "YAML files with a quiz": checks, **funnel.counts(len(kept))}
    return Mined(kept, counts, guess_rates(kept))


def _entries(file: Path) -> list[Any] | None:
    """The entries under `quiz: questions:` of a YAML file; None when it has none or cannot be read as YAML."""
    try:
        if file.stat().st_size > MAX_PART_BYTES:
            return None
        unit = load_yaml(normalise(decode(file.read_bytes())[0]))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", "check its permissions") from error
    except (BrokenYaml, NotText):
        return None
    quiz = unit.get("quiz") if isinstance(unit, dict) else None
    entries = quiz.get("questions") if isinstance(quiz, dict) else None
    return entries if isinstance(entries, list) else None


def _question(entry: Any, name: str) -> Question | str:
    """The question of one entry, or what it lacks."""
    if not isinstance(entry, dict) or not isinstance(entry.get("choices"), list):
        return "no choices"
    asked = _clean(entry.get("content"))
    given = [choice for choice in entry["choices"] if isinstance(choice, dict)]
    choices = tuple(_clean(choice.get("content")) for choice in given)
    right = [place for place, choice in enumerate(given) if choice.get("isCorrect") is True]
    if not asked or not all(choices):
        return "an empty question or choice"
    if len(choices) < 2 or len({choice.casefold() for choice in choices}) < len(choices):
        return "fewer than two different choices"
    if len(right) != 1:
        return "no right choice, or more than one"
    return Question(
        id=question_id("quiz", asked, *choices),
        question=asked,
        answer=choices[right[0]],
        choices=choices,
        answer_index=right[0],
        source=f"quiz:{name}",
        tags=("quiz",),
    )


def _clean(content: object) -> str:
    return clean_text(str(content)) if isinstance(content, str | int | float) else ""
