"""Files as parts: which are meant, what their text is, what is refused, and bombs."""

import os
import shutil
import signal
import subprocess
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmchat.core.attaching.attachments import Attachments, about_tokens
from llmchat.core.attaching.decoding import decode
from llmchat.core.attaching.docx import DocxError, text_of
from llmchat.errors import NotFound, UsageError
from llmchat.store.blobs import Blobs
from llmchat.values import Part

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "src/a.py": "a = 1\n",
        "src/deep/b.py": "b = 2\n",
        "src/deep/c.txt": "c\n",
        "src/.hidden.py": "h\n",
        "src/out/made.py": "m\n",
        ".venv/lib/x.py": "x\n",
        "kept.log": "k\n",
        "gone.log": "g\n",
        ".gitignore": "*.log\n!kept.log\nout/\n",
        ".git/config": "",
    }.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


@pytest.fixture
def attachments(tmp_path: Path) -> Attachments:
    return Attachments(tmp_path / "blobs")


def names(found):
    return [part.meta["name"] for part in found.parts]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("src/**/*.py", ["src/a.py", "src/deep/b.py"]),
        ("src/*.py", ["a.py"]),
        ("src", ["src/a.py", "src/deep/b.py", "src/deep/c.txt"]),
        ("**/*.log", ["kept.log"]),
        ("src/deep/[bc].*", ["src/deep/b.py", "src/deep/c.txt"]),
        ("gone.log", ["gone.log"]),  # named itself, it is meant
        ("src/.hidden.py", [".hidden.py"]),
        ("src/.h*.py", [".hidden.py"]),
    ],
)
def test_what_a_pattern_means(attachments, folder, pattern, expected):
    assert names(attachments.read(pattern, base=folder)) == expected


def test_rules_above_and_below_decide_and_the_nearest_wins(attachments, folder):
    (folder / "src/deep/.gitignore").write_text("b.py\n!gone.log\n")
    (folder / "src/deep/gone.log").write_text("here")
    found = attachments.read("*", base=folder / "src/deep")
    assert names(found) == ["c.txt", "gone.log"]


def test_what_is_not_there_or_cannot_end(attachments, folder):
    os.mkfifo(folder / "pipe")
    (folder / "src/loop").symlink_to(folder / "src")
    for pattern in ("nope", "*.zip", "a\0b", "x" * 5000, "pipe"):
        with pytest.raises(NotFound):
            attachments.read(pattern, base=folder)
    assert "src/loop/a.py" not in names(attachments.read("src", base=folder))


def test_too_many_files_are_a_mistake(attachments, folder):
    for number in range(501):
        (folder / f"{number}.txt").write_text("x")
    with pytest.raises(UsageError, match="500"):
        attachments.read("*.txt", base=folder)


def test_kinds(attachments, folder):
    (folder / "noise").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(UsageError, match="no text"):
        attachments.read("noise", base=folder)
    (folder / "picture.txt").write_bytes(PNG)  # its bytes decide, not its name
    (picture,) = attachments.read("picture.txt", base=folder).parts
    assert (picture.kind, picture.meta["media"]) == ("image", "image/png")
    assert picture.blob is not None
    found = attachments.read(".", base=folder)
    assert "noise" in found.passed_over
    assert "picture.txt" in found.passed_over


def test_blobs_are_private_and_proved(tmp_path):
    blobs = Blobs(tmp_path / "b")
    digest = blobs.put(PNG)
    assert blobs.put(PNG) == digest
    assert blobs.get(digest) == PNG
    (path,) = (tmp_path / "b").glob("*/*")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.write_bytes(b"other")
    for wrong in (digest, "0" * 64, "../../etc/passwd"):
        with pytest.raises(NotFound):
            blobs.get(wrong)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_text_in_any_encoding(encoding):
    text = "Où est le café? Là-bas, près de l'hôtel, à côté du théâtre où l'été a été doux.\n" * 3
    found = decode(text.encode(encoding))
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 4),
        ("shift_jis", "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 4),
    ],
)
def test_text_in_other_scripts(encoding, text):
    found = decode(text.encode(encoding))
    assert found is not None
    assert found.text == text


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_utf8_is_itself(text):
    found = decode(text.encode())
    assert found is not None
    assert found.text == text.removeprefix("\ufeff")


@given(st.binary())
def test_any_bytes_are_text_or_not_and_nothing_else(data):
    found = decode(data)
    assert found is None or "\0" not in found.text.strip("\0")


def docx(xml: str, name: str = "word/document.xml") -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, xml)
    return file.getvalue()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def document(*paragraphs: str) -> str:
    body = "".join(map(paragraph, paragraphs))
    return f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'


def test_a_word_document_is_its_text(attachments, folder):
    (folder / "w.docx").write_bytes(docx(document("One &lt;1&gt;", "Zwei ü")))
    (part,) = attachments.read("w.docx", base=folder).parts
    assert part.text.split("\n")[:2] == ["One <1>", "Zwei ü"]


@pytest.mark.parametrize(
    "data",
    [
        docx('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'),
        docx("<not closed"),
        docx("<x/>", "other.xml"),
        b"PK\x03\x04" + bytes(50),
        docx(document("x"))[:-30],
    ],
    # Their bytes hold the time they were written: no name for a test.
    ids=["entities", "not XML", "no document", "zeros", "cut short"],
)
def test_a_word_document_that_is_none(data):
    with pytest.raises(DocxError):
        text_of(data, 100)


def test_a_word_document_that_swells(monkeypatch):
    monkeypatch.setattr("llmchat.core.attaching.docx.MAX_XML", 10_000)
    with pytest.raises(DocxError, match="unpacks"):
        text_of(docx(document("x" * 20_000)), 100)
    monkeypatch.undo()
    assert len(text_of(docx(document("x" * 20_000)), 100)) == 100


def pdf(text: str, pages: int = 1) -> bytes:
    """Pages with one line of text, as small as the format allows (PDF 1.4, appendix G)."""
    content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * pages, pages),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + (
        b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (table, len(data))
    )


def test_documents_go_through_a_process_of_their_own(attachments, folder):
    (folder / "p.pdf").write_bytes(pdf("Hello from a page"))
    (part,) = attachments.read("p.pdf", base=folder).parts
    assert (part.kind, part.text.strip()) == ("file", "Hello from a page")
    for name, data, words in (
        ("empty.pdf", pdf(""), "no text"),
        ("torn.pdf", b"%PDF-1.4\n" + bytes(200), "cannot be taken out"),
        ("bad.docx", b"PK\x03\x04" + bytes(50), "cannot be taken out"),
    ):
        (folder / name).write_bytes(data)
        with pytest.raises(UsageError, match=words):
            attachments.read(name, base=folder)


def test_whoever_leaves_does_not_wait_for_a_document(attachments, folder, monkeypatch):
    (folder / "p.pdf").write_bytes(pdf(") Tj (x" * 200_000, pages=10))  # a minute's work
    refused: list[str] = []
    readers: Queue[subprocess.Popen[bytes]] = Queue()
    communicate = subprocess.Popen.communicate

    def told(reader, *args, **kwargs):
        readers.put(reader)
        return communicate(reader, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "communicate", told)

    def read():
        with pytest.raises(UsageError) as error:
            attachments.read("p.pdf", base=folder)
        refused.append(error.value.sentence)

    reading = threading.Thread(target=read)
    reading.start()
    reader = readers.get(timeout=20)
    attachments.close()
    reading.join(20)
    assert (len(refused), reader.returncode) == (1, -signal.SIGKILL)
    read()  # nor is another one begun
    assert (len(refused), attachments._documents._readers) == (2, set())
    assert readers.get(timeout=0).returncode == -signal.SIGKILL


async def test_a_file_is_sent_kept_found_and_exported(rt, folder):
    chat = await rt.chats.create()
    found = rt.attachments.read("src/a.py", base=folder)
    words = Part(kind="text", text="What is it?\n#!say=code")
    (reply,) = await (await rt.chats.send(chat.id, [*found.parts, words])).wait()
    assert reply.text == "code"
    question = (await rt.chats.branch(chat.id))[0]
    assert question.parts == (*found.parts, words)
    assert (await rt.chats.search("a 1"))[0].message == question.id
    exported = "".join([piece async for piece in rt.chats.export([chat.id])])
    assert "a.py" in exported
    assert about_tokens(found.parts) == 2


async def test_a_picture_is_refused_before_anything_is_saved(rt, folder):
    (folder / "i.png").write_bytes(PNG)
    chat = await rt.chats.create()
    parts = rt.attachments.read("i.png", base=folder).parts
    with pytest.raises(UsageError, match="picture"):
        await rt.chats.send(chat.id, [*parts, Part(kind="text", text="What is it?")])
    assert await rt.chats.branch(chat.id) == []


async def test_pictures_that_nobody_sent_are_gone_after_a_week(open_runtime, places, folder):
    (folder / "i.png").write_bytes(PNG)
    rt = await open_runtime()
    (part,) = rt.attachments.read("i.png", base=folder).parts
    path = places.blobs / part.blob[:2] / part.blob
    chat = await rt.chats.create()
    question = await rt.chats.edit(
        (await (await rt.chats.send(chat.id, "hi")).wait())[0].parent, [part], rerun=False
    )
    await rt.chats.delete_message(question.id)
    os.utime(path, (0, 0))
    await rt.__aexit__(None, None, None)
    assert path.exists()  # the deletion can be undone
    rt = await open_runtime()
    await rt.chats.purge(chat.id)
    with pytest.raises(NotFound):
        await rt.chats.get(chat.id)
    await rt.__aexit__(None, None, None)
    assert not path.exists()


async def test_a_picture_goes_along_to_another_home(open_runtime, places, folder):
    (folder / "i.png").write_bytes(PNG)
    rt = await open_runtime()
    (part,) = rt.attachments.read("i.png", base=folder).parts
    chat = await rt.chats.create(title="shown")
    (reply,) = await (await rt.chats.send(chat.id, "hi")).wait()
    await rt.chats.edit(reply.parent, [part], rerun=False)
    left: list[str] = []
    file = "".join([piece async for piece in rt.chats.export(kind="json", on_left_out=left.append)])
    await rt.chats.purge(chat.id)
    shutil.rmtree(places.blobs)
    await rt.chats.import_(file.encode())
    assert Blobs(places.blobs).get(part.blob) == PNG
    assert left == []
    shutil.rmtree(places.blobs)
    again = [piece async for piece in rt.chats.export(kind="json", on_left_out=left.append)]
    assert left == ["i.png"]
    assert not (await rt.chats.import_("".join(again).encode())).conversations[0].is_new
    assert not (await rt.chats.import_(file.encode())).conversations[0].is_new
    assert Blobs(places.blobs).get(part.blob) == PNG  # what was lost is back
