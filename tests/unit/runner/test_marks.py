"""References in texts: what they are does not depend on how the text is divided."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.runner.marks import MAX_LINK, MAX_MARK, Link, Mark, Marks, Part, Plain

FRAGMENTS = st.sampled_from(
    [
        "【", "】", "†", "1", "4:0", ":", " ", "\n", "a", "source", "é", "😀", "【4:0†a.txt】",
        "sandbox:/", "sandbox:/mnt/data/x.csv", "(sandbox:/mnt/data/a (1).csv)", "(", ")", "<", ">",
        "sand", "s", "/", ".", '"', "[x](sandbox:/mnt/data/a b.csv)",
        "x" * MAX_MARK, "y" * MAX_LINK,
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS, max_size=12).map("".join)


def read(pieces: Iterable[str], *, marks: bool = True, links: bool = True) -> list[Part]:
    """Returns the parts of a text; plain ones that follow each other are one."""
    reader = Marks(marks=marks, links=links)
    found = [part for piece in pieces for part in reader.add(piece)] + reader.rest()
    parts: list[Part] = []
    for part in found:
        if isinstance(part, Plain) and parts and isinstance(parts[-1], Plain):
            part = Plain(parts.pop().text + part.text)
        parts.append(part)
    return parts


@given(TEXTS, st.data(), st.booleans(), st.booleans())
def test_parts_do_not_depend_on_the_pieces(
    text: str, data: st.DataObject, marks: bool, links: bool
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read([text], marks=marks, links=links)
    assert read(pieces, marks=marks, links=links) == whole
    assert read(text, marks=marks, links=links) == whole
    assert "".join(part.text for part in whole) == text


@given(TEXTS)
@example("【4:0†a】")
def test_marks_are_whole_and_nothing_else_is_held_back(text: str) -> None:
    reader = Marks(marks=True, links=False)
    for at, character in enumerate(text):
        shown = reader.add(character)
        for part in shown:
            assert part.text
            assert isinstance(part, Plain) or part.text[0] + part.text[-1] == "【】"
        if not shown:
            assert "【" in text[: at + 1][-MAX_MARK:]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a【4:0†x.txt】b", [Plain("a"), Mark("【4:0†x.txt】", 4, 0), Plain("b")]),
        ("【4:0†x】【4:1†y】", [Mark("【4:0†x】", 4, 0), Mark("【4:1†y】", 4, 1)]),
        ("【 4 : 0 † x】", [Mark("【 4 : 0 † x】", 4, 0)]),
        ("【12:30】", [Mark("【12:30】", 12, 30)]),
        ("【source†x】", [Mark("【source†x】", -1, -1)]),
        ("【重要】", [Plain("【重要】")]),
        ("【【4:0†x】", [Plain("【"), Mark("【4:0†x】", 4, 0)]),
        ("【4:0\n†x】", [Plain("【4:0\n†x】")]),
        ("end 【4:0†so", [Plain("end "), Mark("【4:0†so", -1, -1)]),
        ("end 【4", [Plain("end "), Mark("【4", -1, -1)]),
        ("end 【", [Plain("end 【")]),
        (
            "[x](sandbox:/mnt/data/x.csv).",
            [Plain("[x]("), Link("sandbox:/mnt/data/x.csv"), Plain(").")],
        ),
        (
            "[x](sandbox:/mnt/data/a (1).csv)",
            [Plain("[x]("), Link("sandbox:/mnt/data/a (1).csv"), Plain(")")],
        ),
        ('(sandbox:/a b "t")', [Plain("("), Link("sandbox:/a b"), Plain(' "t")')]),
        ("(<sandbox:/a b>)", [Plain("(<"), Link("sandbox:/a b"), Plain(">)")]),
        ("see sandbox:/a/b.csv, then", [Plain("see "), Link("sandbox:/a/b.csv"), Plain(", then")]),
        ("sandbox:/ is", [Plain("sandbox:/ is")]),
        (
            "(sandbox:/a b 【1:0†x】",
            [Plain("("), Link("sandbox:/a"), Plain(" b "), Mark("【1:0†x】", 1, 0)],
        ),
        ("sandbox:/a", [Link("sandbox:/a")]),
    ],
)  # fmt: skip
def test_what_a_reference_is(text: str, parts: list[Part]) -> None:
    assert read(text) == parts


def test_the_path_of_a_link() -> None:
    assert Link("sandbox:/mnt/data/x.csv").paths == ["/mnt/data/x.csv"]
    assert Link("sandbox:/a%20b").paths == ["/a%20b", "/a b"]
