"""Writers that are killed, run as `python -m tests.store.crashing WHAT FOLDER COUNT SEED`.

A process of its own, with one thread, so that it can fork writers cheaply. It prints one JSON line
with what it saw and exits 1 with a sentence at the first broken promise.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from llmchat.errors import LlmchatError
from llmchat.store.database import Database, connect, make_private_file
from llmchat.store.migrations import STEPS, migrate
from llmchat.store.replies import Ending
from llmchat.store.store import Store, open_store
from llmchat.values import Part


def text(string):
    return (Part(kind="text", text=string),)


def open_at(folder: Path) -> Store:
    store = open_store(folder / "data" / "chats.db", folder / "writers", face="test")
    assert store.notices == [], store.notices
    return store


def write_for_ever(folder: Path, name: str, acknowledge) -> None:
    """Turns without end; each promise is acknowledged only after the store has made it."""
    acknowledge("ready")
    store = open_at(folder)
    chat = store.conversations.create(title=name)
    leaf, number = None, 0
    while True:
        number += 1
        words = f"{name} question {number} " + "é" * (number % 50)
        asked, (reply,) = store.writer.begin(chat.id, leaf, question=text(words))
        acknowledge("asked", asked, words)
        answer = ""
        for piece in range(5):
            more = f"{name} {number}.{piece} " * random.randrange(1, 200)
            store.writer.checkpoint([(reply, "text", more)])
            answer += more
            acknowledge("piece", reply, answer)
        store.writer.finish([Ending(message=reply, parts=text(answer), status="complete")])
        acknowledge("answered", reply, answer)
        leaf = reply


def forked(work) -> tuple[int, int]:
    """Runs `work(acknowledge)` in a child; its pid, and the pipe that it acknowledges through."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        random.seed(os.getpid())

        def acknowledge(*facts) -> None:
            os.write(writing, json.dumps(facts).encode() + b"\n")

        work(acknowledge)
    except (LlmchatError, OSError) as error:
        os.write(writing, json.dumps(["error", type(error).__name__, str(error)]).encode() + b"\n")
    finally:
        os._exit(0)  # never back into the parent's code


def acknowledged(reading: int, pid: int, seconds: float, promises: int = 0) -> list[list[str]]:
    """What the child acknowledged until it ended or was killed.

    It is killed `seconds` after it was ready and had made `promises`: how many kills land in the
    middle of writing does not depend on the pace of the machine.
    """
    os.set_blocking(reading, False)
    data = b""
    deadline = None
    killed = False
    while True:
        try:
            chunk = os.read(reading, 1 << 20)
            if not chunk:
                break
            data += chunk
            if deadline is None and data.count(b"\n") > promises:
                deadline = time.monotonic() + seconds
        except BlockingIOError:
            time.sleep(0.001)
        if deadline is not None and not killed and time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            killed = True
    os.close(reading)
    os.waitpid(pid, 0)
    facts = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert facts.pop(0) == ["ready"]
    return facts


def check(store: Store, facts: list[list[str]]) -> int:
    """Every promise holds; how many replies were left interrupted."""
    assert store.db.read("PRAGMA integrity_check") == [("ok",)]
    store.db.write("INSERT INTO message_fts (message_fts) VALUES ('integrity-check')")
    assert store.db.one("SELECT count(*) FROM message WHERE status = 'streaming'") == (0,)
    assert store.db.one("SELECT count(*) FROM piece") == (0,)
    interrupted = 0
    for kind, id_, words in facts:
        assert kind != "error", (id_, words)
        message = store.tree.get(id_)
        if kind == "asked":
            assert message.text == words
        elif kind == "piece":
            assert message.text.startswith(words)
        else:
            assert (message.text, message.status) == (words, "complete")
        interrupted += message.status == "interrupted" and kind == "piece"
        assert message.status != "interrupted" or message.error
    return interrupted


def kill_writers(folder: Path, count: int, chance: random.Random) -> dict[str, int]:
    """A1: kill -9 at random moments while replies stream."""
    everything: list[list[str]] = []
    interrupted = 0
    open_at(folder).close()
    for number in range(count):
        pid, reading = forked(
            lambda acknowledge, name=f"w{number}": write_for_ever(folder, name, acknowledge)
        )
        facts = acknowledged(reading, pid, chance.uniform(0.0, 0.02), chance.randrange(16))
        everything += facts
        store = open_at(folder)
        interrupted += check(store, facts) > 0
        store.close()
    store = open_at(folder)
    check(store, everything)
    store.close()
    left = list((folder / "writers").glob("*.lock"))
    assert left == [], left
    return {"kills": count, "promises": len(everything), "interrupted": interrupted}


def many_writers(folder: Path, count: int, chance: random.Random) -> dict[str, float]:
    """A5: several processes write at once, with forced checkpoints; another one watches."""
    seconds = float(count)
    watching = open_at(folder)
    children = [
        forked(lambda acknowledge, name=f"p{n}": write_for_ever(folder, name, acknowledge))
        for n in range(3)
    ]
    end = time.monotonic() + seconds
    seen, slowest = -1, 0.0
    while time.monotonic() < end:
        time.sleep(0.05)
        watching.db.read("PRAGMA wal_checkpoint(TRUNCATE)")
        row = watching.db.one("SELECT coalesce(max(seq), 0), max(created) FROM message")
        assert row is not None
        if row[0] != seen:
            assert watching.changed() or seen == -1
            seen = int(str(row[0]))
            slowest = max(slowest, time.time() - float(str(row[1] or time.time())))
    facts = [fact for pid, reading in children for fact in acknowledged(reading, pid, 0.0)]
    watching.close()
    store = open_at(folder)
    check(store, facts)
    names = {str(title) for (title,) in store.db.read("SELECT title FROM conversation")}
    assert names == {"p0", "p1", "p2"}
    store.close()
    assert slowest < 10.0, slowest  # as long as it all takes, twice: 0.2 on a quiet machine
    return {"promises": len(facts), "slowest": round(slowest, 3)}


def add_column(db: Database) -> None:
    db.write("ALTER TABLE message ADD COLUMN mood TEXT")


def rewrite_texts(db: Database) -> None:
    db.write("UPDATE part SET text = text || '!'")


def table_of_moods(db: Database) -> None:
    db.write("CREATE TABLE mood (name TEXT)")
    db.write("INSERT INTO mood SELECT 'mood ' || seq FROM message")


LATER = (*STEPS, add_column, rewrite_texts, table_of_moods)


def state_of(db: Database) -> tuple[bool, ...]:
    """What each later step changes, and what must stay."""
    columns = [row[1] for row in db.read("PRAGMA table_info(message)")]
    texts = {str(text)[-1] for (text,) in db.read("SELECT text FROM part")}
    moods = db.one("SELECT count(*) FROM sqlite_schema WHERE name = 'mood'")
    assert moods is not None
    ledger = {str(name) for (name,) in db.read("SELECT name FROM migration")}
    done = ("mood" in columns, texts == {"!"}, moods[0] == 1)
    assert ("mood" in columns) == ("add_column" in ledger)
    assert texts == ({"!"} if "rewrite_texts" in ledger else {"x"})
    assert (moods[0] == 1) == ("table_of_moods" in ledger)
    return done


def time_of_migration(folder: Path, old: bytes) -> float:
    """Seconds that the steps take here, with half as much again."""
    target = folder / "timing.db"
    target.write_bytes(old)
    began = time.monotonic()
    db = connect(str(target))
    migrate(db, folder / "timing.bak", LATER)
    db.close()
    return (time.monotonic() - began) * 1.5


def check_migrated(target: Path) -> tuple[bool, ...]:
    """The file is at one step or the next, its copy is whole, and the rest can be applied."""
    db = connect(str(target))
    assert db.read("PRAGMA integrity_check") == [("ok",)]
    state = state_of(db)
    assert db.one("SELECT count(*) FROM message") == (4000,)
    migrate(db, None, LATER)
    assert state_of(db) == (True, True, True)
    db.close()
    whole = list(target.parent.glob("chats.db.bak.before-add_column"))
    if any(state):
        assert len(whole) == 1
    if whole:
        copy = connect(str(whole[0]))
        assert copy.one("SELECT count(*) FROM message") == (4000,)
        assert state_of(copy) == (False, False, False)
        copy.close()
    return state


def kill_migrations(folder: Path, count: int, chance: random.Random) -> dict[str, object]:
    """A6: kill -9 at random points in a migration: at one step or the next, never between."""
    path = folder / "old" / "chats.db"
    path.parent.mkdir(mode=0o700)
    make_private_file(path)
    db = connect(str(path))
    migrate(db, None)
    store = Store(db, None, "test", [])
    chat = store.conversations.create()
    with db.transaction():
        for _ in range(4000):
            store.tree.add(chat.id, None, "user", text("x" * 300))
    store.close()
    old = path.read_bytes()
    whole_time = time_of_migration(folder, old)
    found: dict[str, int] = {}
    for number in range(count):
        work = folder / str(number)
        work.mkdir(mode=0o700)
        target = work / "chats.db"
        target.write_bytes(old)

        def go(acknowledge, target=target) -> None:
            acknowledge("ready")
            later = connect(str(target))
            migrate(later, target.with_name("chats.db.bak"), LATER)
            later.close()

        pid, reading = forked(go)
        acknowledged(reading, pid, chance.uniform(0.0, whole_time))
        state = check_migrated(target)
        found[str(sum(state))] = found.get(str(sum(state)), 0) + 1
    return {"kills": count, "steps_done": found}


def main() -> None:
    what, folder, count, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    work = {
        "kill-writers": kill_writers,
        "many-writers": many_writers,
        "kill-migrations": kill_migrations,
    }[what]
    sys.stdout.write(json.dumps(work(Path(folder), int(count), chance)))


if __name__ == "__main__":
    main()
