"""The text of a PDF, page by page, through pypdf. Runs in `documents.py`'s own process only.

Pictures of text have none: nothing is recognized.
"""

from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import FileNotDecryptedError, PyPdfError

MOST_PAGES = 5_000


class PdfError(ValueError):
    """No PDF, or one that cannot be read."""


class PdfLocked(PdfError):
    """It needs a password."""


def text_of(data: bytes, most: int) -> str:
    """At most `most` characters, pages apart by an empty line.

    Raises:
        PdfLocked: it needs a password.
        PdfError: it is damaged.
    """
    try:
        reader = PdfReader(BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise PdfLocked("it needs a password")
        pages: list[str] = []
        length = 0
        for number, page in enumerate(reader.pages):
            if number >= MOST_PAGES or length > most:
                break
            pages.append(page.extract_text().strip())
            length += len(pages[-1])
    except FileNotDecryptedError as error:
        raise PdfLocked(str(error)) from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise PdfError(str(error) or type(error).__name__) from error
    return "\n\n".join(filter(None, pages))[:most]
