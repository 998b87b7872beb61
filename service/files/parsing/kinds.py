"""What kind of file some bytes are: told by the bytes, and by the name where those do not tell."""

import re
import zipfile
from enum import Enum
from typing import BinaryIO, Final

from service.files.parsing import Refused

MAX_UNPACKED = 512 * 2**20
"""Bytes that the members of an archive may have together, unpacked."""

MAX_MEMBERS = 10_000

_UNREADABLE = (
    "7z aac accdb ai aif apk avi avif bin bmp bz2 class db dll dmg doc dylib eps epub exe flac "
    "gif gz heic ico iso jar jpeg jpg lz4 m4a m4v mdb mkv mov mp3 mp4 mpeg mpg mpp msg msi npy npz "
    "o odp ods odt ogg opus otf parquet pickle pkl png ppt psd pyc pyd rar so sqlite tar tgz tif "
    "tiff ttf wav webm webp whl wma wmv woff woff2 xls xz zip zst"
)
UNREADABLE: Final = frozenset(_UNREADABLE.split())
"""Extensions of files that no parser reads: they are refused before anything is read."""

_ENDED_BY_NAME = {"pdf": "pdf", "docx": "zip", "pptx": "zip", "xlsx": "zip"}
_HTML = (b"<!doctype html", b"<html")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_BINARY = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xc0-\xfe]|\x7fELF|MZ\x90\x00|\x1f\x8b\x08|\xfd7zXZ\x00"
    rb"|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|OggS\x00|fLaC[\x00\x80]\x00\x00\x22|ID3[\x02-\x04]"
    rb"|SQLite format 3\x00|\x28\xb5\x2f\xfd|\x00\x00\x01\x00|\xca\xfe\xba\xbe|%!PS-Adobe-\d"
)
"""How files begin that no parser reads."""

_BINARY_OR_TEXT = re.compile(
    rb"GIF8[79]a|RIFF.{4}(?:WAVE|WEBP|AVI )|BZh[1-9](?:1AY&SY|\x17rE8P\x90)", re.DOTALL
)
"""The same, where a text may begin so, too: it has no control characters."""

_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PDF_AHEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*%PDF-\d\.\d")
_PDF_OBJECT = re.compile(rb"\d\s+\d+\s+obj\b")


class Kind(Enum):
    """What reads a file."""

    pdf = "pdf"
    docx = "docx"
    pptx = "pptx"
    xlsx = "xlsx"
    html = "html"
    text = "text"


_FOLDERS = {"word": Kind.docx, "ppt": Kind.pptx, "xl": Kind.xlsx}


def extension(filename: str) -> str:
    """Returns what follows the last dot of a filename, in lower case; often nothing."""
    return filename.rpartition(".")[2].lower() if "." in filename else ""


def readable(filename: str) -> bool:
    """Whether a file of that name may have text. Most are only told by their bytes."""
    return extension(filename) not in UNREADABLE


def kind_of(file: BinaryIO, ended: str) -> Kind:
    """Returns the kind of a file whose name has the extension `ended`. Raises Refused."""
    file.seek(0)
    head = file.read(4096)
    if not head:
        raise Refused("empty")
    plain = _CONTROLS.search(head) is None
    if ended in UNREADABLE or _BINARY.match(head) or (not plain and _BINARY_OR_TEXT.match(head)):
        if head.startswith(_OLE) and _encrypted(file):
            raise Refused("encrypted")
        raise Refused("unsupported")
    if head.startswith(b"PK\x03\x04"):
        return _archive(file, ended)
    if head.startswith(_OLE):
        raise Refused("encrypted" if _encrypted(file) else "unsupported")
    if _is_pdf(head, ended, plain):
        return Kind.pdf
    if ended in _ENDED_BY_NAME:
        raise Refused("damaged")
    # A page that names its encoding may begin with a byte order mark, and with comments.
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if ended in ("html", "htm", "xhtml") or start.startswith(_HTML):
        return Kind.html
    return Kind.text


def _is_pdf(head: bytes, ended: str, plain: bool) -> bool:
    """Tells PDF from text about it. Readers of PDF take its mark anywhere in the first KiB."""
    if b"%PDF-" not in head[:1024]:
        return False
    if ended == "pdf":
        return True
    return _PDF_OBJECT.search(head) is not None and (
        not plain or _PDF_AHEAD.match(head) is not None
    )


def _archive(file: BinaryIO, ended: str) -> Kind:
    """Tells Office's archives from others, and from bombs."""
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise Refused("damaged" if ended in _ENDED_BY_NAME else "unsupported") from None
    names = {member.filename for member in members}
    folders = {name.partition("/")[0] for name in names if "/" in name}
    kind = next((_FOLDERS[folder] for folder in _FOLDERS if folder in folders), None)
    if kind is None or "[Content_Types].xml" not in names:
        raise Refused("damaged" if ended in _ENDED_BY_NAME else "unsupported")
    if len(members) > MAX_MEMBERS or sum(each.file_size for each in members) > MAX_UNPACKED:
        raise Refused("too_large")
    if any(member.flag_bits & 1 for member in members):
        raise Refused("encrypted")
    return kind


def _encrypted(file: BinaryIO) -> bool:
    """Whether an OLE file is an Office document behind a password."""
    file.seek(0)
    return _ENCRYPTED_PACKAGE in file.read(2**20)
