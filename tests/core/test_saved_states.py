"""A deleted conversation leaves nothing on the disk of what models have read of it."""

from llmchat.core.savedstates import SavedStates
from tests.engine.disk.states import conversation, shelf, snapshot


async def test_forgetting_and_allowing(places):
    states = SavedStates(places)
    await states.forget("mine")  # there is no folder yet: nothing happens
    assert not places.kv.exists()
    disk = shelf(places.kv)
    disk.put(snapshot(conversation(1, 600), "mine"))
    disk.put(snapshot(conversation(2, 600), "yours"))
    assert states.kept().entries == 2
    await states.forget("mine")
    assert states.kept().entries == 1
    assert not disk.put(snapshot(conversation(1, 600), "mine"))
    await states.allow("mine")
    assert disk.put(snapshot(conversation(1, 600), "mine"))
    states.clear()
    assert (states.kept().size, states.kept().entries) == (0, 0)
    assert states.kept().budget == 10**9


async def test_a_cache_that_cannot_be_used_stops_nobody(places):
    places.cache.mkdir(parents=True)
    (places.cache / "elsewhere").mkdir()
    places.kv.symlink_to(places.cache / "elsewhere")
    states = SavedStates(places)
    await states.forget("mine")
    await states.allow("mine")
    assert states.kept().size == 0
