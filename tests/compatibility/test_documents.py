"""docs/compatibility.md has every operation and event; what documents name exists."""

import re
from pathlib import Path

import pytest

from tests.support.compatibility.coverage import events
from tests.support.rest.wire import operations

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "compatibility.md").read_text()
DOCUMENTS = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
NAMED = re.compile(r"`tests/([\w/]+\.py)::(\w+)`")
REFERENCES = sorted({found for path in DOCUMENTS for found in NAMED.findall(path.read_text())})
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
FILE = re.compile(r"`((?:bench|docs|gateway|protos|service|storage|tests)/[\w./-]*)(?=[`:])")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ")
]


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=lambda part: part)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    code = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(async )?def {name}\(", code, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = [document.parent / path for path in LINK.findall(text)]
    # Of files that a reader is to make, the name is NAME. What is built is not there yet.
    built = (ROOT / ".gitignore").read_text().splitlines()
    named += [
        ROOT / path for path in FILE.findall(text) if "NAME" not in path and path not in built
    ]
    assert [str(path) for path in named if not path.exists()] == []


def test_every_operation_and_every_event_has_a_row() -> None:
    patterns = {name: (method, path) for name, (method, path) in operations().items()}
    listed = [row for row in ROWS if row[0] in patterns]
    assert sorted(row[0] for row in listed) == sorted(patterns)
    for name, request, *_ in listed:
        method, _, path = request.strip("`").partition(" ")
        assert patterns[name][0] == method
        assert patterns[name][1].fullmatch("/v1" + path)
    shown = [row[0].strip("`") for row in ROWS if row[0].strip("`") in events()]
    assert shown == sorted(shown, key=list(events()).index)
    assert sorted(shown) == sorted(events())


def test_what_differs_is_explained() -> None:
    named = {name for row in ROWS for name in row[-1].split(", ") if re.fullmatch(r"[a-z ]+", name)}
    explained = set(re.findall(r"\*\*([a-z ]+)\*\*", TEXT))
    assert named - {"differs"} <= explained


def test_every_claim_names_a_test() -> None:
    for claim in re.split(r"\n(?=- )", TEXT)[1:]:
        assert "`tests/" in claim.partition("\n\n")[0], claim
