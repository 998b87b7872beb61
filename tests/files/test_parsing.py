"""Parsing: what is read out of each kind of file, and how the bad ones end."""

import bz2
import os
from pathlib import Path

import pytest

from service.files.parsing import ParseFailed
from service.files.parsing.kinds import readable
from service.files.parsing.parser import LIMITS, Limits, parse
from tests.support.files import samples

EMPTY = ("invalid_file", "The file could not be parsed because it is empty.")
TOO_LARGE = ("invalid_file", "The file could not be parsed because it is too large.")
DAMAGED = ("invalid_file", "The file could not be parsed because it is damaged.")
ENCRYPTED = ("invalid_file", "The file could not be parsed because it is encrypted.")
UNSUPPORTED = ("unsupported_file", "The file type is not supported.")

SMALL = Limits(memory=400 * 2**20, cpu_seconds=3)
"""Enough for any parser to begin, so that hostile files end soon."""


async def text_of(path: Path, name: str, data: bytes, limits: Limits = LIMITS) -> str:
    file = path / "file"
    file.write_bytes(data)
    with file.open("rb") as opened:
        return "".join([piece async for piece in parse(opened, name, limits)])


async def failure(
    path: Path, name: str, data: bytes, limits: Limits = LIMITS
) -> tuple[str, str] | None:
    """How parsing fails; None where it does not."""
    try:
        await text_of(path, name, data, limits)
    except ParseFailed as error:
        return error.code, error.message
    return None


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.py", "a.csv", "a.unheard-of", "no extension", "ü\udcff.txt"]
)
async def test_text_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    assert await text_of(tmp_path, name, "Grüße\r\n\tan alle\0".encode()) == "Grüße\n\tan alle"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.txt", "ID3 is how tags of music begin."),
        ("a.txt", "RIFF is a container."),
        ("a.txt", "RIFF....WAVE is how sound begins."),
        ("a.txt", "RIFF....WEBP, RIFF....AVI "),
        ("a.txt", "GIF8 has an a behind it."),
        ("a.md", "GIF89a is newer than GIF87a."),
        ("a.txt", "BZhang wrote this."),
        ("a.txt", "BZh91AY&SY: pi."),
        ("a.txt", "Rar! he said."),
        ("a.txt", "OggS, fLaC, MZ, PK"),
        ("a.txt", "%PDF-1.7 is how a PDF begins."),
        ("a.txt", "%PDF-1.7\nis its first line."),
        ("a.txt", "A PDF begins with %PDF-1.7, an object with 1 0 obj."),
        ("a.html", "<html>A PDF begins with %PDF-1.7."),
        ("a.dot", "digraph { a -> b }"),
        ("a.DOT", "graph { a -- b }"),
    ],
)
async def test_text_about_other_formats_is_text(tmp_path: Path, name: str, start: str) -> None:
    assert start.removeprefix("<html>") in await text_of(tmp_path, name, start.encode())
    if name.endswith("txt"):
        # Not UTF-8, either.
        start = f"{start} {SENTENCE}"
        assert await text_of(tmp_path, name, start.encode("cp1252")) == start


SENTENCE = "Die größte Übung für Äpfel und Öl, sagte er, müßte später heißen: schöne Grüße. "
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. "
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        *((name, SENTENCE) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        ("utf-32", SENTENCE),
        ("cp1252", SENTENCE),
        ("cp1251", RUSSIAN),
        ("shift_jis", JAPANESE),
    ],
)
async def test_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    text *= 50
    assert await text_of(tmp_path, "a.txt", text.encode(encoding)) == text


async def test_long_texts_come_whole(tmp_path: Path) -> None:
    text = "".join(f"line {number} …\n" for number in range(200_000))
    assert await text_of(tmp_path, "a.txt", text.encode()) == text


@pytest.mark.parametrize("end", ["\r\n", "\r"])
async def test_ends_of_lines_are_not_divided(tmp_path: Path, end: str) -> None:
    # Of three characters each, so that one is wherever a piece may end.
    assert await text_of(tmp_path, "a.txt", f"a{end}b{end}".encode() * 100_000) == (
        "a\nb\n" * 100_000
    )


async def test_one_long_stretch_of_a_page_comes_whole(tmp_path: Path) -> None:
    """Longer than a frame of the child may be."""
    text = "a line of text\r\n" * (20 * 2**16)
    page = f"<html><pre>{text}</pre></html>".encode()
    assert await text_of(tmp_path, "a.html", page) == "\n" + text.replace("\r\n", "\n")


PAGE = """<!doctype html><html><head><title>The title</title><style>p {}</style></head>
<body><script>alert(1)</script><h1>Head</h1><p>One <b>bold</b>
word.<br>Next<p>Two</p>tail<table><tr><td>a</td><td>b</td></tr></table><pre>x
  y</pre></body></html>"""


async def test_html(tmp_path: Path) -> None:
    text = await text_of(tmp_path, "page", PAGE.encode())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines == [
        *("The title", "Head", "One bold word.", "Next", "Two", "tail", "a", "b", "x", "y"),
    ]


async def test_html_says_its_encoding(tmp_path: Path) -> None:
    page = f'<meta charset="cp1251"><p>{RUSSIAN}</p>'.encode("cp1251")
    assert RUSSIAN.strip() in await text_of(tmp_path, "a.html", page)


async def test_pdf(tmp_path: Path) -> None:
    text = await text_of(tmp_path, "a.PDF", samples.pdf("First page", "Second page"))
    assert text.split() == ["First", "page", "Second", "page"]


@pytest.mark.parametrize(
    ("name", "ahead"), [("a", b""), ("a.txt", b"\xef\xbb\xbf\r\n"), ("a", b"\0"), ("a.pdf", b"any")]
)
async def test_pdf_by_its_bytes(tmp_path: Path, name: str, ahead: bytes) -> None:
    text = await text_of(tmp_path, name, ahead + samples.pdf("A page"))
    assert text.split() == ["A", "page"]


async def test_docx(tmp_path: Path) -> None:
    data = samples.docx("One", "Two", rows=[("a", "b"), ("c", "d")])
    text = await text_of(tmp_path, "a.docx", data)
    assert [" ".join(line.split()) for line in text.splitlines() if line] == [
        *("One", "Two", "a | b", "c | d"),
    ]


async def test_docx_equations_stay_and_fallbacks_do_not_repeat(tmp_path: Path) -> None:
    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    both = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    said = "<w:r><w:t>said {}</w:t></w:r>"
    xml = samples.body(
        f'<w:p><m:oMath xmlns:m="{math}"><m:r><m:t>E=mc2</m:t></m:r></m:oMath></w:p>'
        f'<w:p><mc:AlternateContent xmlns:mc="{both}"><mc:Choice>{said.format("once")}</mc:Choice>'
        f"<mc:Fallback>{said.format('twice')}</mc:Fallback></mc:AlternateContent></w:p>"
    )
    text = await text_of(tmp_path, "a.docx", samples.docx_of(xml))
    assert text.split() == ["E=mc2", "said", "once"]


async def test_pptx(tmp_path: Path) -> None:
    text = await text_of(tmp_path, "a.pptx", samples.pptx("One", "Two", notes="Say it"))
    assert text.split() == ["One", "Say", "it", "Two", "Say", "it"]


async def test_xlsx(tmp_path: Path) -> None:
    data = samples.xlsx([("Name", "Age"), ("Ann", 41), (None, None), ("Bob", None)], "People")
    text = await text_of(tmp_path, "a.xlsx", data)
    assert [line for line in text.splitlines() if line] == [
        "People",
        "Name | Age",
        "Ann | 41",
        "Bob",
    ]


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
ZIP = b"PK\x05\x06" + bytes(18)
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
WAVE = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x23TSSE\x00\x00\x00\x0f\x00\x00\x03Lavf58"
LOCKED = samples.OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"", EMPTY),
        ("a.pdf", b"", EMPTY),
        ("a.txt", b" \n\t\n\0", EMPTY),
        ("scan.pdf", samples.pdf("", ""), EMPTY),
        ("a.docx", samples.docx(), EMPTY),
        ("a.pdf", samples.pdf("secret", encrypted=True), ENCRYPTED),
        ("a.docx", LOCKED, ENCRYPTED),
        ("a.doc", LOCKED, ENCRYPTED),
        ("a.pdf", samples.pdf("x")[:200], DAMAGED),
        ("a.pdf", b"no pdf", DAMAGED),
        ("a.docx", samples.docx("x")[:9000], DAMAGED),
        ("a.docx", samples.docx_of("<no document"), DAMAGED),
        ("a.xlsx", samples.docx("x")[:-30], DAMAGED),
        ("a.png", PNG, UNSUPPORTED),
        ("a.txt", PNG, UNSUPPORTED),
        ("a.zip", ZIP, UNSUPPORTED),
        ("a.txt", GIF, UNSUPPORTED),
        ("a.txt", WAVE, UNSUPPORTED),
        ("a.txt", MP3, UNSUPPORTED),
        ("a.txt", bz2.compress(b"text"), UNSUPPORTED),
        ("a.txt", bz2.compress(b""), UNSUPPORTED),
        ("a.txt", b"Rar!\x1a\x07\x00", UNSUPPORTED),
        ("a.dot", samples.OLE + bytes(600), UNSUPPORTED),
        ("a.doc", samples.OLE + bytes(600), UNSUPPORTED),
        ("program", Path("/bin/true").read_bytes(), UNSUPPORTED),
        ("a.dat", bytes(range(256)) * 40, UNSUPPORTED),
        ("a.dat", bytes(1000), UNSUPPORTED),
    ],
)
async def test_what_has_no_text_says_why(
    tmp_path: Path, name: str, data: bytes, expected: tuple[str, str]
) -> None:
    assert await failure(tmp_path, name, data) == expected


ENTITIES = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
LAUGHS = f'<!DOCTYPE w:document [<!ENTITY e0 "ha">{ENTITIES}]>'
XXE = '<!DOCTYPE w:document [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


async def test_entities_are_not_expanded(tmp_path: Path) -> None:
    said = "<w:p><w:r><w:t>said &{};</w:t></w:r></w:p>"
    laughs = samples.docx_of(samples.body(said.format("e12"), LAUGHS))
    assert await failure(tmp_path, "a.docx", laughs, SMALL) in (None, DAMAGED)
    assert await text_of(
        tmp_path, "a.docx", samples.docx_of(samples.body(said.format("x"), XXE))
    ) in (*("\nsaid ", "\nsaid \n"),)


async def test_an_archive_that_says_it_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    assert await failure(tmp_path, "a.docx", samples.docx_bomb(1500, 1500 * 2**20)) == TOO_LARGE


ENDS = (TOO_LARGE, DAMAGED)


async def test_an_archive_that_lies_is_not_unpacked_further(tmp_path: Path) -> None:
    assert await failure(tmp_path, "a.docx", samples.docx_bomb(500, 10_000), SMALL) in ENDS


async def test_a_bomb_within_the_limits_ends_at_those_of_the_child(tmp_path: Path) -> None:
    data = samples.docx_bomb(450, 450 * 2**20 + 200)
    assert await failure(tmp_path, "a.docx", data, SMALL) == TOO_LARGE


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.html", b"<div>" * 200_000 + b"text"),
        ("a.html", b"<b>" * 300_000 + b"text"),
        ("a.xlsx", samples.xlsx([(None,)] * 50_000 + [("x",)])),
        ("a.docx", samples.docx_of(samples.body("<w:p/>" * 200_000))),
        ("a.docx", samples.docx_of(samples.body("<w:p>" * 50_000 + "</w:p>" * 50_000))),
        ("a.pdf", samples.pdf("x", stream=b"\x78\x9c" + samples.bomb(1000, b"q "))),
        ("a.pdf", samples.pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]")),
        ("a.txt", b"\xff\xfe" + b"\x00\xd8" * 100_000),
    ],
)
async def test_monsters_end(tmp_path: Path, name: str, data: bytes) -> None:
    problem = await failure(tmp_path, name, data, SMALL)
    assert problem is None or problem in (EMPTY, TOO_LARGE, DAMAGED, UNSUPPORTED)


async def test_too_much_text(tmp_path: Path) -> None:
    limits = Limits(text=1_000_000)
    assert await failure(tmp_path, "a.txt", b"word " * 200_000, limits) is None
    assert await failure(tmp_path, "a.txt", b"word " * 200_001, limits) == TOO_LARGE


async def test_too_much_memory(tmp_path: Path) -> None:
    page = b"<p>text" * 4_000_000
    assert await failure(tmp_path, "a.html", page, Limits(memory=200 * 2**20)) == TOO_LARGE


async def test_too_much_time(tmp_path: Path) -> None:
    page = b"<div>" * 100_000
    assert await failure(tmp_path, "a.html", page, Limits(cpu_seconds=1)) == TOO_LARGE
    assert await failure(tmp_path, "a.html", page, Limits(wall_seconds=0.2)) == TOO_LARGE


async def test_no_process_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"word " * 1_000_000)
    with (tmp_path / "file").open("rb") as file:
        reading = parse(file, "a.txt")
        await anext(reading)
        assert len(_children()) == 1
        await reading.aclose()  # type: ignore[attr-defined]
    assert _children() == []


def _children() -> list[str]:
    """The children of this process that parse."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            command = (directory / "cmdline").read_text()
        except OSError:
            continue
        if int(parent) == os.getpid() and "parsing.child" in command:
            found.append(directory.name)
    return found


def test_names_tell_what_no_parser_reads() -> None:
    assert readable("a.pdf")
    assert readable("Makefile")
    assert readable("archive.tar.md")
    assert readable("graph.dot")
    assert not readable("photo.JPG")
    assert not readable("a.b.zip")
