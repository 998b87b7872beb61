"""Office's documents: paragraphs, tables, slides and sheets."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from lxml import etree

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"

PARAGRAPHS = (f"{_WORD}p", f"{_DRAWING}p")
CELLS = (f"{_WORD}tc", f"{_DRAWING}tc")
TEXTS = (f"{_WORD}t", f"{_MATH}t", f"{_DRAWING}t")
BREAKS = {f"{_WORD}br": "\n", f"{_WORD}cr": "\n", f"{_DRAWING}br": "\n", f"{_WORD}tab": "\t"}
NOTES = ("/footnotes", "/endnotes")


def read_docx(file: BinaryIO) -> Iterator[str]:
    """Yields the text of a Word document, a paragraph or cell at a time, then its notes."""
    from docx import Document
    from docx.oxml.parser import parse_xml

    document = Document(file)
    yield from _texts(document.element.body)
    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.endswith(NOTES):
            yield from _texts(parse_xml(relation.target_part.blob))


def read_pptx(file: BinaryIO) -> Iterator[str]:
    """Yields the text of each slide, with the speaker's notes."""
    from pptx import Presentation

    for slide in Presentation(file).slides:
        yield from _texts(slide.element)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            yield "\n" + notes.text
        yield "\n\n"


def read_xlsx(file: BinaryIO) -> Iterator[str]:
    """Yields the name of each sheet and its rows, as cells show their values."""
    from openpyxl import load_workbook

    book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
    for sheet in book.worksheets:
        yield f"\n{sheet.title}\n"
        for row in sheet.iter_rows(values_only=True):
            values = ["" if value is None else str(value) for value in row]
            while values and not values[-1]:
                values.pop()
            if values:
                yield " | ".join(values) + "\n"


def _texts(root: Any) -> Iterator[str]:
    """Yields what stands in a part of a document: a line for each paragraph or row of a table."""
    cells = 0
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag
        if event == "end":
            cells -= tag in CELLS
        elif tag == _FALLBACK:
            # It repeats, for old programs, what stands before it.
            walk.skip_subtree()
        elif tag in PARAGRAPHS:
            yield " " if cells else "\n"
        elif tag in CELLS:
            cells += 1
            before = element.getprevious()
            yield "\n" if before is None or before.tag not in CELLS else " | "
        elif tag in TEXTS:
            yield element.text or ""
        elif tag in BREAKS:
            yield BREAKS[tag]
