"""The text of a Word document: the runs of `word/document.xml` (ECMA-376, part 1, 17.3).

Owns unpacking one bounded entry of a zip and reading it with expat, entities forbidden: a document
type is refused, so nothing can be expanded. Formatting, headers, notes and pictures are left out.
"""

import zipfile
from io import BytesIO
from xml.parsers import expat

MAX_XML = 128 * 2**20
"""Bytes of XML that are unpacked, whatever the zip says of its size."""

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
_ENDS = {"p": "\n", "tc": "\t", "tr": "\n"}


class DocxError(ValueError):
    """No Word document, or one that we do not take apart."""


def text_of(data: bytes, most: int) -> str:
    """At most `most` characters of a document's text.

    Raises:
        DocxError: it is none, or asks for more than we give it.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive, archive.open("word/document.xml") as entry:
            xml = entry.read(MAX_XML + 1)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DocxError(str(error)) from error
    if len(xml) > MAX_XML:
        raise DocxError(f"its text unpacks to more than {MAX_XML >> 20} MiB")
    return _Reader(most).read(xml)


class _Reader:
    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._pieces: list[str] = []
        self._in_text = False

    def read(self, xml: bytes) -> str:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(xml, True)
        except expat.ExpatError as error:
            raise DocxError(str(error)) from error
        return "".join(self._pieces)[: self._most]

    def _refuse(self, *_: object) -> None:
        raise DocxError("it declares a document type")

    def _start(self, name: str, _attributes: object) -> None:
        space, _, element = name.rpartition(" ")
        if space not in (_WORD, _STRICT):
            return
        if element == "t":
            self._in_text = True
        elif element in _SIGNS:
            self._add(_SIGNS[element])

    def _end(self, name: str) -> None:
        space, _, element = name.rpartition(" ")
        if space in (_WORD, _STRICT):
            if element == "t":
                self._in_text = False
            elif element in _ENDS:
                self._add(_ENDS[element])

    def _text(self, text: str) -> None:
        if self._in_text:
            self._add(text)

    def _add(self, text: str) -> None:
        if self._length < self._most:
            self._length += len(text)
            self._pieces.append(text)
