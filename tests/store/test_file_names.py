"""What is attached is found by its name; older stores learn it when they are opened."""

from llmchat.paths import ensure_private
from llmchat.store.conversations import Conversations
from llmchat.store.database import connect, make_private_file
from llmchat.store.migrations import STEPS, migrate
from llmchat.store.tree import Tree
from llmchat.values import Part

FILE = Part(kind="file", text="x = 1", meta={"name": "src/parser.py"})
PICTURE = Part(kind="image", blob="0" * 64, meta={"name": "harbour.png"})
WORDS = Part(kind="text", text="what is this?")


def consistent(store) -> bool:
    """FTS5 compares its index with the words; a difference is an error."""
    store.db.write("INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)")
    return True


def found(store, words):
    return [hit.message for hit in store.search(words)]


def test_by_name_by_text_and_not_after_a_purge(store):
    chat = store.conversations.create()
    asked, _ = store.writer.begin(chat.id, None, question=(FILE, PICTURE, WORDS))
    for words in ("parser", "harbour", "what is", "x 1"):
        assert found(store, words) == [asked]
    store.conversations.purge(chat.id)
    assert found(store, "parser") == []
    assert consistent(store)


def test_an_older_store_learns_it(places, reopen):
    ensure_private(places.data)
    make_private_file(places.database)
    db = connect(str(places.database))
    migrate(db, None, STEPS[:2])
    conversations = Conversations(db)
    tree = Tree(db, conversations)
    with db.transaction():
        chat = conversations.create()
        asked = tree.add(chat.id, None, "user", (FILE, WORDS))
        picture = tree.add(chat.id, asked, "user", (PICTURE,))
        plain = tree.add(chat.id, picture, "user", (WORDS,))
        growing = tree.add(chat.id, plain, "assistant", (FILE,), status="streaming")
        # A row that a damaged disk has left.
        seq = db.one("SELECT seq FROM message WHERE id = ?", (picture,))
        assert seq is not None
        db.write("UPDATE part SET meta = '{' WHERE message = ?", seq)
    db.close()
    store = reopen()
    assert found(store, "parser") == [asked]
    assert found(store, "harbour") == []
    assert found(store, "what is") == [plain, asked]
    assert growing not in found(store, "x")
    # What is still written is not in the index yet: FTS5 would miss it there.
    store.db.write("DELETE FROM message WHERE id = ?", (growing,))
    assert consistent(store)
