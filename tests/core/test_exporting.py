"""Files of conversations: what we write is read back as it was, and rubbish is only refused."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmchat.core.carrying import bring_in, text_of
from llmchat.core.enclosing import Enclosing, take_out
from llmchat.core.exporting import naming, own, reading
from llmchat.core.exporting.branches import branch, only
from llmchat.core.exporting.formats import FORMATS
from llmchat.errors import LlmchatError, NotFound, StoreError
from llmchat.store.blobs import Blobs
from llmchat.store.ids import new_id
from llmchat.store.store import Store, memory_store
from llmchat.values import (
    ChatSettings,
    Generation,
    LeftOut,
    Message,
    Origin,
    Part,
    Sampling,
    SavedConversation,
    SavedMessage,
)


def bounded(examples: int) -> settings:
    """A number of examples; time says nothing on a machine that others use too."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=slow)


# Whatever SQLite and UTF-8 can hold: NUL, U+2028, emoji, escape sequences, bidi; no surrogates.
WORDS = st.text(
    st.one_of(
        st.sampled_from("\0\x1b\r\n\t\u2028\u202e\ufeff\u200d😀<&>\"'`\\"),
        st.characters(codec="utf-8"),
    ),
    max_size=12,
)
ATTACHED = {hashlib.sha256(data).hexdigest(): data for data in (b"", b"\0\xff<>", b"image" * 99)}
LOST = "ab" * 32
"""A hash whose bytes nobody has."""
NUMBERS = st.floats(0, 4e9, allow_nan=False)
PARTS = st.lists(
    st.builds(
        Part,
        kind=st.sampled_from(["text", "thinking", "tool_call", "tool_result", "image", "file"]),
        text=WORDS,
        blob=st.none() | st.sampled_from([*ATTACHED, LOST]),
        meta=st.dictionaries(WORDS, WORDS, max_size=2),
    ),
    max_size=4,
    unique_by=lambda part: part.kind,  # neighbours of one kind are one part in the store
).map(tuple)
GENERATIONS = st.builds(
    Generation,
    model=WORDS,
    settings=st.dictionaries(
        WORDS, st.builds(Origin, value=WORDS | st.integers(0, 2**63), source=WORDS), max_size=2
    ),
    seed=st.none() | st.integers(0, 2**32 - 1),
    finish=st.none() | st.sampled_from(["stop", "length"]),
    left_out=st.none() | st.builds(LeftOut, messages=st.just(()), tokens=st.just(3), policy=WORDS),
)


@st.composite
def trees(draw: st.DrawFn) -> SavedConversation:
    """Several roots, versions, deletions, replies of every kind."""
    messages: list[SavedMessage] = []
    for _ in range(draw(st.integers(0, 8))):
        above = draw(st.none() | st.sampled_from(messages)) if messages else None
        id_ = new_id()
        own = id_ if draw(st.integers(0, 3)) == 0 else None
        tokens = draw(st.lists(st.integers(0, 2**32 - 1), max_size=3))
        messages.append(
            SavedMessage(
                id=id_,
                parent=above.id if above else None,
                role=draw(st.sampled_from(["system", "user", "assistant", "tool"])),
                parts=draw(PARTS),
                status=draw(st.sampled_from(["complete", "interrupted", "failed"])),
                created=draw(NUMBERS),
                generation=draw(st.none() | GENERATIONS),
                error=draw(st.none() | WORDS),
                deleted=above.deleted if above and above.deleted else own,
                vocab="some" if tokens else "",
                tokens=tuple(tokens),
            )
        )
    visible = [message.id for message in messages if message.deleted is None]
    return SavedConversation(
        id=new_id(),
        title=draw(WORDS),
        created=draw(NUMBERS),
        updated=draw(NUMBERS),
        settings=ChatSettings(
            system=draw(st.none() | WORDS),
            sampling=Sampling(temperature=0.5, logit_bias=draw(st.none() | st.just({7: -1.5}))),
        ),
        active_leaf=draw(st.sampled_from(visible)) if visible else None,
        source=draw(st.sampled_from(["tui", "cli", "import"])),
        pinned=draw(st.booleans()),
        folder=draw(st.none() | WORDS),
        deleted=draw(st.none() | NUMBERS),
        messages=tuple(messages),
        blobs={
            part.blob: ATTACHED[part.blob]
            for message in messages
            for part in message.parts
            if part.blob in ATTACHED
        },
    )


def exported(*conversations: SavedConversation, kind: str = "json") -> bytes:
    form = FORMATS[kind]  # type: ignore[index]
    texts = (form.one(saved) for saved in conversations)
    return (form.begin + form.between.join(texts) + form.end).encode()


@pytest.fixture
def store():
    store = memory_store("cli")
    yield store
    store.close()


@bounded(50)
@given(st.lists(trees(), max_size=3))
def test_what_is_written_is_read_back(conversations: list[SavedConversation]):
    assert reading.read(exported(*conversations)).conversations == tuple(conversations)


@bounded(60)
@given(saved=trees())
def test_export_then_import_is_identity_through_two_stores(
    tmp_path_factory: pytest.TempPathFactory, saved: SavedConversation
):
    first, second = memory_store("cli"), memory_store("cli")
    blobs = [Blobs(tmp_path_factory.mktemp("blobs")) for _ in range(2)]
    try:
        data = exported(saved)
        for store, folder in zip((first, second), blobs, strict=True):
            (read,) = reading.read(data).conversations
            assert read == saved
            assert bring_in(store, take_out(read, folder), again=False).is_new
            assert not bring_in(store, take_out(read, folder), again=False).is_new
            again = exported_from(store, saved.id, folder)
            assert reading.read(again).conversations == (saved,)
            data = again
        assert exported_from(first, saved.id, blobs[0]) == data
    finally:
        first.close()
        second.close()


def exported_from(store: Store, id_: str, blobs: Blobs | None = None) -> bytes:
    form = FORMATS["json"]
    enclosing = Enclosing(blobs) if blobs else None
    return (form.begin + text_of(store, id_, "json", None, enclosing) + form.end).encode()


def with_images(*digests: str) -> SavedConversation:
    parts = tuple(Part(kind="image", blob=digest, meta={"name": digest[:4]}) for digest in digests)
    message = SavedMessage(id=new_id(), role="user", parts=parts)
    return SavedConversation(id=new_id(), active_leaf=message.id, messages=(message,))


def test_each_attachment_is_in_a_file_once_and_what_stays_behind_is_named(tmp_path: Path):
    blobs = Blobs(tmp_path / "blobs")
    one, two, large = (blobs.put(data) for data in (b"1", b"22", b"3" * 100))
    enclosing = Enclosing(blobs, most=50)
    first = enclosing.put_in(with_images(one, large, one, LOST))
    second = enclosing.put_in(with_images(one, large, two))
    assert (first.blobs, second.blobs) == ({one: b"1"}, {two: b"22"})
    assert enclosing.left_out == [large[:4], LOST[:4]]
    other = Blobs(tmp_path / "other")
    for read in reading.read(exported(first, second)).conversations:
        assert take_out(read, other).blobs == {}
    assert other.get(two) == b"22"
    with pytest.raises(NotFound):
        other.get(large)


def test_a_file_with_and_without_the_bytes_is_the_same_conversation(tmp_path: Path):
    (digest, data) = list(ATTACHED.items())[2]
    bare = with_images(digest)
    whole = msgspec.structs.replace(bare, blobs={digest: data})
    assert naming.derived(bare).id == naming.derived(whole).id


def test_tools_come_back_and_what_is_none_is_refused():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"a": [{"b": {}}]}}}
    made = Generation(model="m", settings={"tools": Origin(value=[tool], source="flag")})
    message = SavedMessage(id=new_id(), role="assistant", generation=made)
    saved = SavedConversation(
        id=new_id(),
        settings=ChatSettings(tools=(tool,)),
        active_leaf=message.id,
        messages=(message,),
    )
    assert reading.read(exported(saved)).conversations == (saved,)
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"name": "f", "parameters": deep}
    deep = {"type": "function", "function": deep}
    for bad in ({}, {"type": "function"}, {"type": "function", "function": {"name": 1}}, deep):
        for wrong in (
            msgspec.structs.replace(saved, settings=ChatSettings(tools=(bad,))),
            msgspec.structs.replace(
                saved,
                messages=(
                    msgspec.structs.replace(
                        message,
                        generation=Generation(
                            model="m", settings={"tools": Origin(value=[bad], source="flag")}
                        ),
                    ),
                ),
            ),
        ):
            with pytest.raises(StoreError) as caught:
                reading.read(exported(wrong))
            assert caught.value.key == "core.import_damaged"


def test_attachments_that_are_not_what_they_say_are_refused(monkeypatch: pytest.MonkeyPatch):
    (digest, data) = list(ATTACHED.items())[2]
    good = json.loads(exported(with_images(digest)))
    for name, value in (
        (digest, base64.b64encode(data + b"!").decode()),
        (digest, "no base64"),
        (digest, 5),
        (digest.upper(), base64.b64encode(data).decode()),
        ("../../x", base64.b64encode(data).decode()),
    ):
        good["conversations"][0]["blobs"] = {name: value}
        with pytest.raises(StoreError) as caught:
            reading.read(json.dumps(good).encode())
        assert caught.value.key == "core.import_damaged"
    good["conversations"][0]["blobs"] = {digest: base64.b64encode(data).decode()}
    assert reading.read(json.dumps(good).encode()).conversations[0].blobs == {digest: data}
    monkeypatch.setattr(own, "MAX_BLOB", len(data) - 1)
    with pytest.raises(StoreError, match="size"):
        reading.read(json.dumps(good).encode())


@bounded(60)
@given(trees(), st.sampled_from(["md", "html", "jsonl"]))
def test_every_conversation_can_be_written_for_readers(saved: SavedConversation, kind: str):
    text = exported(saved, kind=kind).decode()
    if kind == "jsonl":
        lines = text.split("\n")
        assert all("messages" in json.loads(line) for line in lines if line)
        return
    if kind == "html":
        check_page(text)
        return
    for message in branch(saved):
        for part in message.parts:
            assert part.kind == "image" or part.text in text


class Page(HTMLParser):
    """Which elements and attributes a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}


def check_page(text: str) -> None:
    page = Page()
    page.feed(text)
    tags = {tag for tag, _ in page.found}
    assert tags <= {
        "html", "head", "meta", "title", "style", "body", "article", "section",
        "h1", "h2", "p", "em", "pre", "bdi", "details", "summary",
    }  # fmt: skip
    assert {name for _, name in page.found} <= {
        "", "charset", "http-equiv", "content", "name", "class", "dir",
    }  # fmt: skip
    assert "\0" not in text
    assert "\x1b" not in text


ATTACK = '</pre></title><script src="http://x/"></script><img src=x onerror=alert(1)>"\'&'


def hostile() -> SavedConversation:
    parts = tuple(
        Part(kind=kind, text=ATTACK, meta={"name": ATTACK})
        for kind in ("text", "thinking", "tool_call", "tool_result", "file", "image")
    )
    message = SavedMessage(
        id=new_id(),
        role="assistant",
        parts=parts,
        status="failed",
        error=ATTACK,
        generation=Generation(model=ATTACK),
    )
    return SavedConversation(
        id=new_id(),
        title=ATTACK,
        settings=ChatSettings(system=ATTACK),
        active_leaf=message.id,
        messages=(message,),
    )


def test_a_page_holds_no_markup_of_the_conversation():
    text = exported(hostile(), kind="html").decode()
    check_page(text)
    assert "<script" not in text
    assert "<img" not in text
    assert "default-src 'none'" in text


def test_jsonl_is_the_form_that_fine_tuning_reads():
    call = Part(kind="tool_call", text='{"a": 1}', meta={"id": "c1", "name": "add"})
    result = Part(kind="tool_result", text="2", meta={"id": "c1"})
    rows = [
        ("user", (Part(kind="text", text="one and one?"),)),
        ("assistant", (Part(kind="thinking", text="hm"), call)),
        ("tool", (result,)),
        ("assistant", (Part(kind="text", text="two"),)),
        ("assistant", ()),
    ]
    messages: list[SavedMessage] = []
    for role, parts in rows:
        above = messages[-1].id if messages else None
        messages.append(SavedMessage(id=new_id(), parent=above, role=role, parts=parts))  # type: ignore[arg-type]
    saved = SavedConversation(
        id=new_id(),
        settings=ChatSettings(system="Be brief."),
        active_leaf=messages[-1].id,
        messages=tuple(messages),
    )
    line = json.loads(exported(saved, kind="jsonl"))
    function = {"name": "add", "arguments": '{"a": 1}'}
    assert line["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one and one?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "two"},
    ]
    (back,) = reading.read(exported(saved, kind="jsonl")).conversations
    assert back.settings.system == "Be brief."
    assert [m.parts for m in back.messages[:2]] == [m.parts for m in messages[:2]]
    assert back.messages[2].parts[0].text == "2"


def test_one_branch_alone():
    root, left, right = (new_id() for _ in range(3))
    saved = SavedConversation(
        id=new_id(),
        active_leaf=left,
        messages=(
            SavedMessage(id=root, role="user"),
            SavedMessage(id=left, role="assistant", parent=root),
            SavedMessage(id=right, role="assistant", parent=root, deleted=right),
        ),
    )
    assert [message.id for message in only(saved, right).messages] == [root, right]
    assert reading.read(exported(only(saved, right))).conversations[0].active_leaf == root
    with pytest.raises(NotFound):
        branch(saved, "nowhere")


def test_a_file_with_new_words_becomes_a_conversation_beside(store: Store):
    root = SavedMessage(id=new_id(), role="user", parts=(Part(kind="text", text="hi"),))
    saved = SavedConversation(id=new_id(), active_leaf=root.id, messages=(root,))
    assert bring_in(store, saved, again=False).conversation.id == saved.id
    store.conversations.rename(saved.id, "renamed here")
    assert not bring_in(store, saved, again=False).is_new
    more = SavedMessage(id=new_id(), parent=root.id, role="assistant")
    grown = msgspec.structs.replace(saved, messages=(root, more))
    beside = bring_in(store, grown, again=False)
    assert beside.is_new
    assert beside.conversation.id != saved.id
    assert not bring_in(store, grown, again=False).is_new
    assert store.conversations.get(saved.id).title == "renamed here"
    assert len(store.tree.all(saved.id)) == 1
    copies = {bring_in(store, saved, again=True).conversation.id for _ in range(2)}
    assert len(copies | {saved.id, beside.conversation.id}) == 4


def test_ids_of_others_are_not_taken_over(store: Store):
    root = SavedMessage(id=new_id(), role="user", parts=(Part(kind="text", text="mine"),))
    mine = SavedConversation(id=new_id(), active_leaf=root.id, messages=(root,))
    bring_in(store, mine, again=False)
    thief = msgspec.structs.replace(mine, id=new_id())
    taken = bring_in(store, thief, again=False)
    assert taken.conversation.id not in (mine.id, thief.id)
    assert [message.text for message in messages_of(store, mine.id)] == ["mine"]


def messages_of(store: Store, id_: str) -> list[Message]:
    return store.tree.all(id_)


def test_an_imported_message_is_found_and_undeleted(store: Store):
    root = SavedMessage(id=new_id(), role="user", parts=(Part(kind="text", text="walrus"),))
    gone = SavedMessage(
        id=(id_ := new_id()),
        parent=root.id,
        role="assistant",
        parts=(Part(kind="text", text="ice"),),
        deleted=id_,
    )
    saved = SavedConversation(id=new_id(), active_leaf=root.id, messages=(root, gone))
    bring_in(store, saved, again=False)
    assert [hit.message for hit in store.search("walrus")] == [root.id]
    store.tree.undelete(gone.id)
    assert [message.id for message in store.tree.branch(saved.id, gone.id)] == [root.id, gone.id]


def test_what_a_damaged_store_has_left_can_be_carried_away(store: Store):
    ids = [new_id() for _ in range(3)]
    chain = tuple(
        SavedMessage(
            id=id_,
            parent=ids[n - 1] if n else None,
            role="user",
            parts=(Part(kind="text", text=f"words {n}"),),
            deleted=ids[1] if n else None,
        )
        for n, id_ in enumerate(ids)
    )
    saved = SavedConversation(id=new_id(), active_leaf=ids[0], messages=chain)
    bring_in(store, saved, again=False)
    store.db.read("PRAGMA foreign_keys = OFF")
    store.db.write("DELETE FROM message WHERE id = ?", (ids[1],))
    store.db.write("UPDATE conversation SET active_leaf = ?", (ids[1],))
    for kind in FORMATS:
        text_of(store, saved.id, kind, None)
    (left,) = reading.read(exported_from(store, saved.id)).conversations
    assert [(m.id, m.parent, m.deleted) for m in left.messages] == [
        (ids[0], None, None),
        (ids[2], None, ids[2]),
    ]
    assert left.active_leaf == ids[0]


# Rubbish and malice


@bounded(200)
@given(st.binary(max_size=200) | WORDS.map(str.encode))
def test_rubbish_raises_only_our_own_errors(data: bytes):
    refused(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(
        ["", "m0", "user", "assistant", "tool", "llmchat", "text", "thoughts", "code", "\ud800",
         "contentBlock", '<details type="reasoning"', "</details>"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(
            ["format", "version", "conversations", "messages", "mapping", "message", "author",
             "role", "content", "parts", "parent", "children", "id", "versions", "steps", "type",
             "currentlySelected", "chat", "history", "currentId", "parentId", "childrenIds",
             "content_type", "text", "thoughts", "create_time", "recipient", "tool_calls", "a"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@bounded(400)
@given(JSON_VALUES)
def test_every_json_is_read_or_refused(value: object):
    refused(json.dumps(value).encode())
    refused(json.dumps({"mapping": {"a": value, "b": {"parent": "a", "message": value}}}).encode())
    refused(json.dumps({"messages": [{"versions": [value], "currentlySelected": 0}]}).encode())
    refused(json.dumps({"format": "llmchat", "version": 1, "conversations": [value]}).encode())


def refused(data: bytes) -> None:
    """Reads a file; only our own errors may come, and what is read can be named and encoded."""
    try:
        file = reading.read(data)
    except LlmchatError as error:
        error.sentence.encode()
        return
    for saved in file.conversations:
        naming.derived(saved)
        for form in FORMATS.values():
            form.one(saved).encode()


OWN = '{"format":"llmchat","version":1,"conversations":[%s]}'
A, B = "0" * 26, "1" * 26


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"", "core.import_not_json"),
        (b"\xff\xfe", "core.import_not_json"),
        (b"[" * 100_000, "core.import_not_json"),
        (OWN.replace("%s", '"\\ud800"').encode(), "core.import_damaged"),
        (b"[1e999]", "core.import_not_json"),
        (b"[" + b"9" * 5000 + b"]", "core.import_not_json"),
        (b"PK\x03\x04rest", "core.import_zip"),
        (b"{}", "core.import_unknown"),
        (b'[{"mapping": {}}]', "core.import_empty"),
        (b'{"format":"llmchat","version":2}', "core.import_newer"),
        (b'{"format":"llmchat","version":1}', "core.import_damaged"),
        (OWN % '{"id":"../../etc"}', "core.import_damaged"),
        (OWN % f'{{"id":"{A}","settings":{{"nonsense":1}}}}', "core.import_damaged"),
        (OWN % f'{{"id":"{A}","messages":[{{"id":"x","role":"user"}}]}}', "core.import_damaged"),
        (
            OWN % f'{{"id":"{A}","messages":[{{"id":"{B}","role":"user","parent":"{B}"}}]}}',
            "core.import_damaged",
        ),
        (
            OWN % f'{{"id":"{A}","messages":[{{"id":"{B}","role":"user","tokens":[-1]}}]}}',
            "core.import_damaged",
        ),
    ],
    ids=range(16),
)
def test_what_is_wrong_with_a_file_is_said(data: bytes | str, key: str):
    with pytest.raises(StoreError) as caught:
        reading.read(data.encode() if isinstance(data, str) else data)
    assert caught.value.key == key


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 10)
    with pytest.raises(StoreError) as caught:
        reading.read(b"[" + b" " * 20 + b"]")
    assert caught.value.key == "core.import_too_large"


def test_a_file_of_too_many_values_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "MAX_CONTAINERS", 10)
    with pytest.raises(StoreError) as caught:
        reading.read(b"[" + b"[]," * 20 + b"[]]")
    assert caught.value.key == "core.import_too_many"
