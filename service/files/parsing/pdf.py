"""PDF: the text of each page."""

from collections.abc import Iterator
from typing import BinaryIO

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from service.files.parsing import Refused

HYPHENS = ("￾\r\n", "\x02\r\n", "￾", "\x02")
"""What stands where a word was divided at the end of a line."""


def read(file: BinaryIO) -> Iterator[str]:
    """Yields the text of each page. Raises Refused."""
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        encrypted = getattr(error, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD
        raise Refused("encrypted" if encrypted else "damaged") from error
    for number in range(len(document)):
        text = _page(document, number)
        for hyphen in HYPHENS:
            text = text.replace(hyphen, "")
        yield text + "\n\n"


def _page(document: pdfium.PdfDocument, number: int) -> str:
    """Returns the text of one page; nothing of one that is damaged."""
    try:
        page = document[number]
        text_page = page.get_textpage()
        text = str(text_page.get_text_range())
        text_page.close()
        page.close()
    except pdfium.PdfiumError:
        return ""
    return text
