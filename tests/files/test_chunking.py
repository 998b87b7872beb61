"""Chunking: whole texts, in chunks of the size that was asked for."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.files import chunking
from service.files.chunking import RATIO, Chunk, Chunker, Strategy, TooManyTokens
from service.files.words import tokenize

SENTENCE = "the server keeps each run in a table of its database until Größe 数据 😀 ends"
WORDS = SENTENCE.split()


def prose(words: int, seed: int = 1, line: int = 12) -> str:
    """Words in lines."""
    chosen = random.Random(seed).choices(WORDS, k=words)
    return "".join(word + ("\n" if n % line == line - 1 else " ") for n, word in enumerate(chosen))


def chunks_of(text: str, strategy: Strategy, piece: int = 10_000) -> list[Chunk]:
    chunker = Chunker(strategy)
    found = []
    for at in range(0, len(text), piece):
        found += chunker.feed(text[at : at + piece])
    return found + chunker.finish()


def joined(chunks: list[Chunk]) -> str:
    """The text that chunks are of."""
    text = ""
    for chunk in chunks:
        assert chunk.start <= len(text)
        assert text[chunk.start :] == chunk.text[: len(text) - chunk.start]
        text += chunk.text[len(text) - chunk.start :]
    return text


STRATEGIES = [
    Strategy(),
    Strategy(100, 50),
    Strategy(100, 0),
    Strategy(4096, 2048),
    Strategy(300, 30),
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_chunks_cover_the_text_and_keep_to_the_strategy(strategy: Strategy) -> None:
    text = prose(9000)
    chunks = chunks_of(text, strategy)
    assert joined(chunks) == text
    most, overlap = round(strategy.size * RATIO), round(strategy.overlap * RATIO)
    assert all(len(chunk.tokens) <= most for chunk in chunks)
    assert all(len(chunk.tokens) >= most * 0.85 for chunk in chunks[:-1])
    for one, other in pairwise(chunks):
        assert one.start < other.start
        shared = one.start + len(one.text) - other.start
        assert (shared > 0) == (overlap > 0)
        if shared:
            tokens = len(tokenize([text[other.start : one.start + len(one.text)]])[0].ids)
            assert overlap - 30 <= tokens <= overlap + 4


def test_chunks_begin_and_end_with_words_and_end_with_lines_if_they_can() -> None:
    chunks = chunks_of(prose(3000), Strategy(200, 100))
    assert all(chunk.text.endswith("\n") for chunk in chunks[:-1])
    known = set(WORDS)
    assert all(set(chunk.text.split()) <= known for chunk in chunks)
    without_lines = chunks_of(prose(3000, line=10**9), Strategy(200, 100))
    assert all(set(chunk.text.split()) <= known for chunk in without_lines)


@pytest.mark.parametrize("text", ["", "a", " ", "\n", "word", "😀", "x" * 50])
def test_short_texts(text: str) -> None:
    chunks = chunks_of(text, Strategy())
    assert [chunk.text for chunk in chunks] == ([text] if text else [])


@pytest.mark.parametrize("unit", ["x", "😀", "数据", "\n", "é ", "a\n\n\n"])
def test_texts_without_words_or_lines(unit: str) -> None:
    text = unit * 9000
    assert joined(chunks_of(text, Strategy(100, 50))) == text


def test_how_the_text_comes_in_does_not_matter() -> None:
    text = prose(3000)
    whole = chunks_of(text, Strategy(), len(text))
    for piece in (1, 997, 2999, 3000, 3001):
        found = chunks_of(text, Strategy(), piece)
        assert [(each.start, each.text) for each in found] == [
            (each.start, each.text) for each in whole
        ]


@settings(max_examples=60)
@given(st.text(alphabet="ab \nÄ😀\u3000數", max_size=6000), st.integers(100, 300), st.data())
def test_any_text_is_covered(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    piece = data.draw(st.integers(1, 7000))
    chunks = chunks_of(text, Strategy(size, overlap), max(piece, len(text) // 50 + 1))
    assert joined(chunks) == text
    assert all(len(chunk.tokens) <= round(size * RATIO) for chunk in chunks)


def test_a_text_of_too_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "MAX_TOKENS", 1000)
    assert len(chunks_of("word " * 1000, Strategy())) == 2
    with pytest.raises(TooManyTokens):
        chunks_of("word " * 1300, Strategy())
