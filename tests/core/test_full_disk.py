"""A disk that is really full: what was said stays, what is sent is refused, and then goes on."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llmchat.errors import StoreError


@pytest.fixture
def small_disk(places) -> Iterator[Path]:
    """The conversations' folder as a disk of 1 MB, mounted where that is permitted."""
    places.data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(places.data)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield places.data
    subprocess.run(["umount", "-l", str(places.data)], check=True)


async def test_a_full_disk_refuses_the_words_and_takes_them_when_there_is_room(
    small_disk, open_runtime
):
    rt = await open_runtime("rate=0;n_ctx=100000")
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "first\n#!say=kept")).wait()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    words = "second " * 20_000
    with pytest.raises(StoreError) as refusal:
        await rt.chats.send(chat.id, words)
    assert refusal.value.key == "store.full"
    assert refusal.value.hint is not None
    assert rt.chats.turns() == []
    assert len(await rt.chats.branch(chat.id)) == 2
    filler.unlink()
    (reply,) = await (await rt.chats.send(chat.id, f"{words}\n#!say=here")).wait()
    assert reply.text == "here"
    branch = await rt.chats.branch(chat.id)
    assert [message.text[:6] for message in branch] == ["first\n", "kept", "second", "here"]
