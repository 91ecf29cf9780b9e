"""Builds the database that a release leaves behind: `python -m tests.store.released.make NAME`.

Run with the release's own code, once; the result is committed and never made again, since later
code would write something else. Beside it lies what was in it, read without llmchat.
"""

import hashlib
import json
import lzma
import random
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from llmchat.store.replies import Ending
from llmchat.store.store import Store, open_store
from llmchat.values import ChatSettings, Generation, Part, Sampling

HERE = Path(__file__).parent
TABLES = ("conversation", "message", "part", "generation", "tokens")
WORDS = [
    "wave", "shore", "lamp", "ünïcödé", "🧑\u200d🚀", "日本語", "\u202e", "NUL\x00inside",
    "'quote'", "\\", "tab\t",
]  # fmt: skip


def fill(store: Store) -> None:
    """Fifty conversations: branches, marks, thinking, every status, one message of 5 MB."""
    seed = random.Random("0.1.0")
    for number in range(50):
        settings = ChatSettings(system=f"be {number}", sampling=Sampling(temperature=number / 10))
        chat = store.conversations.create(
            title=f"{' '.join(seed.choices(WORDS, k=4))} {number}",
            settings=settings if number % 3 else ChatSettings(),
            source=("tui", "cli", "import")[number % 3],
            folder="work" if number % 7 == 0 else None,
        )
        leaf: str | None = None
        for turn in range(number % 5 + 1):
            text = " ".join(seed.choices(WORDS, k=30)) * (
                25_000 if (number, turn) == (20, 0) else 1
            )
            _, replies = store.writer.begin(
                chat.id, leaf, question=(Part(kind="text", text=text),), n=turn % 2 + 1
            )
            for reply in replies:
                store.writer.finish([_ending(reply, seed)])
            leaf = replies[0]
        if number % 10 == 3 and leaf is not None:
            store.tree.delete(leaf)
        store.conversations.pin(chat.id, number % 11 == 0)
        if number % 13 == 5:
            store.conversations.delete(chat.id)


def _ending(reply: str, seed: random.Random) -> Ending:
    made = Generation(model="some:Q4", identity="ab" * 32, seed=seed.getrandbits(32), finish="stop")
    parts = (
        Part(kind="thinking", text=seed.choice(WORDS)),
        Part(kind="text", text=" ".join(seed.choices(WORDS, k=60))),
        Part(kind="tool_call", text='{"a": 1}', meta={"id": "x", "name": "f"}),
    )
    return Ending(
        message=reply,
        parts=parts[: seed.randrange(1, 4)],
        status=seed.choice(["complete", "failed", "interrupted"]),
        generation=made,
        error=seed.choice([None, "It went wrong."]),
        tokens=tuple(seed.choices(range(50_000), k=40)),
        vocab="cd" * 32,
    )


def digests(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """What every table holds, by hash of its rows in the columns that the release had."""
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    db.text_factory = bytes
    found: dict[str, Any] = {}
    for table in TABLES:
        names = (columns or {}).get(table) or [
            row[1].decode() for row in db.execute(f"PRAGMA table_info({table})")
        ]
        rows = db.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, 2").fetchall()
        found[table] = {
            "columns": names,
            "rows": len(rows),
            "sha256": hashlib.sha256(repr(rows).encode()).hexdigest(),
        }
    db.close()
    return found


def main(name: str) -> None:
    """Write `NAME.db.xz` and `NAME.json` beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.db"
        store = open_store(path, Path(folder) / "writers", face="tui")
        fill(store)
        store.close()
        record = {"steps": _steps(path), "tables": digests(path)}
        (HERE / f"{name}.db.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))
    (HERE / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def _steps(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    names = [str(name) for (name,) in db.execute("SELECT name FROM migration ORDER BY applied")]
    db.close()
    return names


if __name__ == "__main__":
    main(sys.argv[1])
