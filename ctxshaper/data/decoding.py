"""From a file's bytes to its text: every character of the file, in the encoding that it really has."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ctxshaper.errors import InvalidInputError

UTF8_BOM = codecs.BOM_UTF8
# The longer first: UTF-32's mark begins with UTF-16's.
_WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_WIDE |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What people's old files are written in. Everything else that a detector can name (EBCDIC, DOS and Mac pages, UTF-16
# without its mark) is a wrong guess far more often than a right one.
_LEGACY = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"]
_LEGACY += ["iso8859_2", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
# The default of Western files, and of browsers: taken where it fits as well as the best. Text in a Latin script is
# mostly ASCII.
_USUAL = "cp1252"
_BEYOND_ASCII = bytes(range(128, 256))
# A guess that is not better than its rival by this much (of mess, or of letters as frequent as in a known language) is
# no more than a guess.
_CLEAR = 0.03
# No text has these; white space, form feed and the terminal's escape are not among them.
_CONTROL = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")


class NotTextError(InvalidInputError):
    """A file that cannot be read, or that holds no text; in a folder it is passed over with a warning."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked if its name ends in .gz.

    Raises:
        NotTextError: it cannot be opened, read or unpacked.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(BinaryIO, file)
    except (OSError, EOFError, zlib.error) as error:
        raise NotTextError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode(data: bytes, where: str) -> tuple[str, str]:
    r"""The text of a file and its encoding: UTF-8, or what its byte order mark or a detector says.

    Every character is the file's own: line ends stay (`\r\n` too), so offsets into the text are offsets into the file's
    characters. A byte order mark is not part of the text; offset 0 is the first character behind it.

    Raises:
        NotTextError: binary data, damaged UTF-8, or an encoding that cannot be told for sure.
    """
    if data.startswith(b"%PDF"):
        raise NotTextError(f"{where} is a PDF; convert it to text, for example with pdftotext")
    encoding = "utf-8"
    try:
        encoding = next((name for mark, name in _WIDE.items() if data.startswith(mark)), "utf-8")
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise NotTextError(f"{where} begins as {encoding.upper()} text, but is none: {error.reason}") from error
        encoding = _detected(data, where)
        text = _decoded(data, encoding, where)
    if "\x00" in text:
        raise NotTextError(f"{where} is not text: it holds NUL bytes")
    return text, encoding


def _decoded(data: bytes, encoding: str, where: str) -> str:
    """The text in an encoding that was detected, perhaps from samples of it."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotTextError(f"{where} looks like {encoding}, but is damaged at byte {error.start}") from error
    if _CONTROL.search(text):
        raise NotTextError(f"{where} is not text: it holds control characters, and is not UTF-8")
    return text


def _detected(data: bytes, where: str) -> str:
    """The encoding of a text that is not UTF-8."""
    if b"\x00" in data:
        raise NotTextError(f"{where} is not text: it holds NUL bytes")
    lenient = data.decode("utf-8", "replace")
    damaged = lenient.count("\ufffd")
    # Other encodings hardly ever make the sequences of UTF-8 by chance.
    if len(lenient) - len(lenient.encode("ascii", "ignore")) - damaged > damaged:
        raise NotTextError(
            f"{where} is UTF-8 with {damaged} damaged places; repair it, for example with iconv -c -f UTF-8 -t UTF-8"
        )
    # Imported here: nearly all files are UTF-8.
    from charset_normalizer import from_bytes

    found = list(from_bytes(data, cp_isolation=_LEGACY, preemptive_behaviour=False))
    if not found:
        raise NotTextError(f"{where} is not text, or in no encoding that can be told; convert it to UTF-8")
    best = found[0]
    latin = len(data.translate(None, _BEYOND_ASCII)) > len(data) / 2
    for match in found:
        fits = match.chaos <= best.chaos and match.coherence >= best.coherence - _CLEAR
        if latin and fits and _USUAL in match.could_be_from_charset:
            return _USUAL
    rivals = [
        match.encoding
        for match in found[1:]
        if match.chaos < best.chaos + _CLEAR and match.coherence > best.coherence - _CLEAR
    ]
    if rivals:
        raise NotTextError(
            f"{where} is not UTF-8, and its encoding cannot be told for sure ({best.encoding} or {', '.join(rivals)}); "
            f"convert it, for example with iconv -f ENCODING -t UTF-8"
        )
    return best.encoding
