"""Running a reply again: the same request, and what became different."""

import pytest

from llmchat.core.replaying import changes, word_diff
from llmchat.engine.client.session import LocalSession
from llmchat.errors import NotFound, UsageError
from llmchat.values import ChatSettings, Generation, Sampling


@pytest.fixture
def asked(monkeypatch):
    """Every request that a session was given."""
    requests = []
    real = LocalSession.generate

    def generate(self, request, late=None):
        requests.append(request)
        return real(self, request, late)

    monkeypatch.setattr(LocalSession, "generate", generate)
    return requests


async def test_the_request_is_the_same_with_the_seed_that_was_drawn(rt, asked):
    settings = ChatSettings(
        system="Be brief.",
        stop=("END",),
        max_tokens=5,
        sampling=Sampling(temperature=0.5, logit_bias={7: -1.0}),
    )
    chat = await rt.chats.create(settings=settings)
    await (await rt.chats.send(chat.id, "one\n#!say=a b c d e f g")).wait()
    (reply,) = await (await rt.chats.send(chat.id, "two\n#!say=a b c d e f g")).wait()
    await rt.chats.configure(chat.id, ChatSettings(system="Shout.", max_tokens=2))
    before = await rt.chats.branch(chat.id)
    replay = await rt.replays.run(reply.id)
    assert replay.same
    assert replay.changes == ()
    first, again = asked[1], asked[2]
    assert again.prompt == first.prompt
    assert (again.max_tokens, again.stop) == (5, ("END",))
    assert again.sampling.logit_bias == {7: -1.0}
    assert again.sampling.seed == reply.generation.seed is not None
    assert await rt.chats.branch(chat.id) == before  # nothing is saved unless asked


async def test_a_reply_that_went_on_is_run_from_where_it_went_on(rt, asked):
    chat = await rt.chats.create()
    (first,) = await (await rt.chats.send(chat.id, "q\n#!say=one two;think=hm")).wait()
    (longer,) = await (await rt.chats.continue_(first.id)).wait()
    assert longer.generation.continued.characters == len("hmone two")
    assert longer.generation.continued.tokens > 0
    replay = await rt.replays.run(longer.id, save=True)
    assert replay.same
    assert replay.before == longer.text
    made, again = asked[1], asked[2]
    assert again.prompt == made.prompt
    assert again.prompt.continue_final
    saved = await rt.chats.message(replay.saved)
    assert saved.parts == longer.parts
    tokens = await rt.chats._storage.call(
        rt.chats._storage.store.writer.tokens, [saved.id, longer.id]
    )
    assert tokens[saved.id] == tokens[longer.id]
    # One that was edited and went on has no tokens of its beginning.
    (other,) = await (await rt.chats.edit(first.id, "uno ")).wait()
    assert other.generation.continued.tokens == 0
    assert (await rt.replays.run(other.id)).same


async def test_a_difference_is_found_and_may_be_kept(rt, open_runtime):
    chat = await rt.chats.create()
    (reply,) = await (await rt.chats.send(chat.id, "q")).wait()
    other = await open_runtime("rate=0;say=You said nothing at all")
    await rt._sessions.aclose()
    replay = await other.replays.run(chat.id, save=True)
    assert not replay.same
    assert replay.now == "You said nothing at all"
    (_, kept) = await rt.chats.branch(chat.id)
    assert (kept.id, kept.text) == (replay.saved, replay.now)
    assert kept.siblings == (reply.id, kept.id)


async def test_what_cannot_be_run_again(rt):
    chat = await rt.chats.create()
    with pytest.raises(NotFound, match="no reply"):
        await rt.replays.run(chat.id)
    (reply,) = await (await rt.chats.send(chat.id, "q")).wait()
    with pytest.raises(UsageError):
        await rt.replays.run(reply.parent)
    edited = await rt.chats.edit(reply.id, "mine", rerun=False)
    with pytest.raises(UsageError, match="not known"):
        await rt.replays.run(edited.id)
    with pytest.raises(NotFound):
        await rt.replays.run("nonsense")


def test_what_changed_is_named():
    before = Generation(model="a", identity="1", build="b1", template_digest="t")
    now = Generation(model="a", identity="2", build="b2", template_digest="t", prompt_digest="p")
    assert [change.what for change in changes(before, now)] == ["file", "build"]


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ("a b c", "a b c", "a b c"),
        ("a b c", "a x c", "a [-b-]{+x+} c"),
        ("a", "a b", "a{+ b+}"),
        ("a b", "b", "[-a -]b"),
        ("", "", ""),
    ],
)
def test_a_word_diff(before, now, shown):
    assert word_diff(before, now) == shown
