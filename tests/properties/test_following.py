"""Any stream, followed by anyone from any moment on, gives the same text in the same order."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from llmchat.core.events import AnyChatEvent, TextAdded, ThinkingAdded
from llmchat.core.following import Published

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([TextAdded, ThinkingAdded]), st.sampled_from("ab"), st.text()),
        st.just("follow"),
        st.just("yield"),
    ),
    max_size=40,
)


def flat(events: list[AnyChatEvent]) -> list[tuple[type, str, str]]:
    """One entry a character, so that how the text was cut does not matter."""
    return [
        (type(event), event.message, character)
        for event in events
        if isinstance(event, TextAdded | ThinkingAdded)
        for character in event.text
    ]


@given(steps)
def test_every_follower_sees_the_same(plan):
    async def run() -> None:
        published = Published()
        everything: list[AnyChatEvent] = []
        following = []

        async def follow() -> list[AnyChatEvent]:
            return [event async for event in published.follow()]

        for step in plan:
            if step == "follow":
                following.append(asyncio.create_task(follow()))
            elif step == "yield":
                await asyncio.sleep(0)
            else:
                kind, message, text = step
                event = kind(turn="t", conversation="c", message=message, text=text)
                everything.append(event)
                published.add(event)
        following.append(asyncio.create_task(follow()))
        published.close()
        for seen in await asyncio.gather(*following):
            assert flat(seen) == flat(everything)

    asyncio.run(run())
