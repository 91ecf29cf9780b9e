"""Titles by the model: when idle, behind everybody, and never over one that somebody gave."""

import asyncio

import pytest

from llmchat.core.titling import tidy
from tests.core.test_turn import wait_for_text


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("llmchat.core.titling.PAUSE", 0.02)


@pytest.fixture
def by_model(places):
    places.config.mkdir(parents=True, exist_ok=True)
    places.config_file.write_text('[chat]\ntitles = "model"\n')


async def title_of(rt, chat):
    return (await rt.chats.get(chat.id)).title


async def settled(rt):
    """Returns once no title is being made."""
    if rt.chats._titling._tasks:
        await asyncio.wait(list(rt.chats._titling._tasks.values()), timeout=20)


@pytest.mark.usefixtures("by_model")
async def test_the_model_gives_a_title_after_the_first_reply(open_runtime):
    rt = await open_runtime('rate=0;say=**Title: "Skies in blue."**\n and more')
    chat = await rt.chats.create()
    turn = await rt.chats.send(chat.id, "Why is the sky blue?")
    assert await title_of(rt, chat) == "Why is the sky blue?"  # at once, of the first words
    await turn.wait()
    await settled(rt)
    assert await title_of(rt, chat) == "Skies in blue"
    assert await rt.chats.changed()  # the list of conversations looks again
    assert len(await rt.chats.branch(chat.id)) == 2


@pytest.mark.usefixtures("by_model")
async def test_a_title_that_somebody_gave_stays(open_runtime):
    rt = await open_runtime("rate=0;say=Other")
    chat = await rt.chats.create(title="Mine")
    await (await rt.chats.send(chat.id, "hello")).wait()
    await settled(rt)
    assert await title_of(rt, chat) == "Mine"
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "hello")).wait()
    await rt.chats.rename(chat.id, "hello")  # by hand, though the same
    await settled(rt)
    assert await title_of(rt, chat) == "hello"


@pytest.mark.usefixtures("by_model")
async def test_a_message_comes_first_and_the_title_later(open_runtime, monkeypatch):
    rt = await open_runtime("rate=0;say=Later")
    monkeypatch.setattr("llmchat.core.titling.PAUSE", 60)
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "one")).wait()
    monkeypatch.setattr("llmchat.core.titling.PAUSE", 0.02)
    turn = await rt.chats.send(chat.id, "two\n#!words=400;rate=100")
    await wait_for_text(turn)
    assert await title_of(rt, chat) == "one"
    await rt.chats.cancel(turn.id)
    await (await rt.chats.send(chat.id, "three")).wait()
    await settled(rt)
    assert await title_of(rt, chat) == "Later"


@pytest.mark.usefixtures("by_model")
async def test_nobody_is_disturbed_while_another_client_is_answered(open_runtime, monkeypatch):
    monkeypatch.setattr("llmchat.core.titling.PAUSE", 60)
    ours = await open_runtime("rate=0;say=Ours")
    chat = await ours.chats.create()
    turn = await ours.chats.send(chat.id, "hello")
    await turn.wait()
    ours.chats._titling.stop()
    await settled(ours)
    monkeypatch.setattr("llmchat.core.titling.PAUSE", 0.02)
    monkeypatch.setattr("llmchat.core.titling.PATIENCE", 5)
    theirs = await open_runtime("rate=0;say=Ours")
    other = await theirs.chats.create(title="theirs")
    long = await theirs.chats.send(other.id, "go\n#!words=5000;rate=100")
    await wait_for_text(long)
    ours.chats._titling.after(turn)
    await settled(ours)
    assert await title_of(ours, chat) == "hello"  # it was busy all the time
    await theirs.chats.cancel(long.id)
    monkeypatch.setattr("llmchat.core.titling.PATIENCE", 200)
    ours.chats._titling.after(turn)
    await settled(ours)
    assert await title_of(ours, chat) == "Ours"


@pytest.mark.parametrize("script", ["die=SIGKILL;at=read", "fail=overloaded", "say=\\n"])
@pytest.mark.usefixtures("by_model")
async def test_a_failure_leaves_the_first_words(open_runtime, script, monkeypatch):
    rt = await open_runtime(f"rate=0;{script}")
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "hello\n#!say=hi;fail=;die=SIGKILL;at=idle")).ended()
    await settled(rt)
    assert (await title_of(rt, chat)).startswith("hello")


async def test_by_default_the_first_words_are_the_title(rt):
    chat = await rt.chats.create()
    await (await rt.chats.send(chat.id, "hello")).wait()
    assert not rt.chats._titling._tasks
    assert await title_of(rt, chat) == "hello"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ('"Blue Skies"', "Blue Skies"),
        ("\n\n# **Title:** The sky.\nBecause", "The sky"),
        ("***", ""),
        ("", ""),
        ("Título: `Céu azul`", "Céu azul"),
    ],
)
def test_a_title_is_tidied(text, title):
    assert tidy(text) == title


def test_a_long_title_is_cut():
    assert len(tidy("word " * 100)) <= 60
