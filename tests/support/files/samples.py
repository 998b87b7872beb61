"""Files to parse, good ones and hostile ones, made here."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable

from docx import Document
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DOCUMENT = "word/document.xml"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def pdf(*pages: str, encrypted: bool = False, stream: bytes | None = None) -> bytes:
    """A PDF with a line of text on each page, or with a compressed stream as its first page's."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        content = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode() if text else b""
        coded = zlib.compress(content) if stream is None else stream
        kids.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects) + 2} 0 R"
            " /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
            " >> >>".encode()
        )
        head = f"<< /Length {len(coded)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + coded + b"\nendstream")
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    # Neither of these is the hash of any password.
    hashes = f"/O <{'41' * 32}> /U <{'42' * 32}>"
    locked = f"/Encrypt << /Filter /Standard /V 1 /R 2 {hashes} /P -4 >>" if encrypted else ""
    ids = f"/ID [<{'43' * 16}> <{'43' * 16}>]"
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {ids} {locked} >>\n".encode()
    return bytes(out + f"startxref\n{start}\n%%EOF\n".encode())


def docx(*paragraphs: str, rows: Iterable[tuple[str, ...]] = ()) -> bytes:
    """A Word document, with a table of two columns if there are rows."""
    document = Document()
    for text in paragraphs:
        document.add_paragraph(text)
    rows = list(rows)
    if rows:
        table = document.add_table(rows=0, cols=len(rows[0]))
        for row in rows:
            for cell, text in zip(table.add_row().cells, row, strict=True):
                cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def docx_of(xml: str) -> bytes:
    """A Word document whose main part is this XML."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx())) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, xml if name == DOCUMENT else old.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def body(xml: str, before: str = "") -> str:
    """The main part of a Word document, around some XML."""
    return f'{before}<w:document xmlns:w="{WORD}"><w:body>{xml}</w:body></w:document>'


def pptx(*slides: str, notes: str = "") -> bytes:
    """A presentation, with speaker's notes on each slide."""
    presentation = Presentation()
    for text in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        inch = Inches(1)
        slide.shapes.add_textbox(inch, inch, inch, inch).text_frame.text = text
        if notes and (frame := slide.notes_slide.notes_text_frame) is not None:
            frame.text = notes
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def xlsx(rows: Iterable[tuple[object, ...]], title: str = "Sheet") -> bytes:
    """A workbook of one sheet."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet(title)
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def bomb(mebibytes: int, filling: bytes, head: bytes = b"", tail: bytes = b"") -> bytes:
    """Raw deflated data that unpacks to so many mebibytes of a filling between head and tail."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = (filling * (2**20 // len(filling) + 1))[: 2**20 // len(filling) * len(filling)]
    middle = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + middle * mebibytes + packer.compress(tail) + packer.flush()


def docx_bomb(mebibytes: int, declared: int, filling: bytes = b"<w:p/>") -> bytes:
    """A Word document whose main part unpacks to so many mebibytes, and declares a size."""
    head, tail = body("").encode().split(b"</w:body>")
    data = bomb(mebibytes, filling, head, b"</w:body>" + tail)
    name = DOCUMENT.encode()
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx())) as old, zipfile.ZipFile(out, "w") as new:
        for each in old.namelist():
            if each != DOCUMENT:
                new.writestr(each, old.read(each), zipfile.ZIP_DEFLATED)
    # The member with its own sizes is put ahead of the directory by hand.
    archive = out.getvalue()
    at = struct.unpack("<I", archive[-6:-2])[0]
    members, directory = archive[:at], archive[at:-22]
    sizes = struct.pack("<III", 0, len(data), declared)
    local = struct.pack("<4s5H", b"PK\3\4", 20, 0, 8, 0, 0) + sizes
    local += struct.pack("<HH", len(name), 0) + name + data
    central = struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 8, 0, 0) + sizes
    central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, at) + name
    directory += central
    count = struct.unpack("<H", archive[-12:-10])[0] + 1
    end = struct.pack("<4s4HIIH", b"PK\5\6", 0, 0, count, count, len(directory), at + len(local), 0)
    return members + local + directory + end
