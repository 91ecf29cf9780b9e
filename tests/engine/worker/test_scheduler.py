"""The policy alone: no model, no clock."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from llmchat.engine.worker.scheduler import (
    SMALLEST_CHUNK,
    ChunkSizer,
    fits,
    gives_way,
    plan,
)


class Reply(Struct, frozen=True):
    pending: int
    order: tuple[int, int] = (0, 0)
    mark: int = 0

    @property
    def stretch(self) -> int:
        return self.mark or self.pending


def test_generating_replies_come_first_and_readers_share_what_is_left():
    writers = [Reply(1, (0, place)) for place in range(3)]
    readers = [Reply(1000, (0, 10)), Reply(40, (0, 11)), Reply(1000, (0, 12))]
    shares = plan(writers, readers, 512, 120)
    assert [share.who for share in shares[:3]] == writers
    assert [share.rows for share in shares[3:]] == [40, 40, 40]


def test_what_a_short_prompt_does_not_need_goes_to_the_next():
    shares = plan([], [Reply(10, (0, 1)), Reply(1000, (0, 2))], 512, 512)
    assert [share.rows for share in shares] == [10, 502]


def test_a_batch_ends_where_a_checkpoint_is_wanted():
    shares = plan([], [Reply(100, (0, 1), mark=30), Reply(100, (0, 2))], 512, 512)
    assert [share.rows for share in shares] == [30, 100]


replies = st.lists(st.integers(1, 5000), max_size=40)


@given(st.integers(0, 80), replies, st.integers(1, 2048), st.integers(1, 2048))
def test_a_batch_never_has_more_rows_than_n_batch(writers, prompts, n_batch, chunk):
    generating = [Reply(1, (0, place)) for place in range(writers)]
    reading = [Reply(size, (0, 100 + place)) for place, size in enumerate(prompts)]
    shares = plan(generating, reading, n_batch, chunk)
    assert sum(share.rows for share in shares) <= n_batch
    assert all(1 <= share.rows <= share.who.pending for share in shares)
    if writers + len(prompts):
        assert shares  # something always moves


def test_a_chunk_shrinks_beside_others_to_the_target_time():
    sizer = ChunkSizer(512, target=0.3)
    assert sizer.rows(alone=True) == 512
    for _ in range(20):
        sizer.observe(100, 0.5)  # 5 ms a row
    assert sizer.rows(alone=False) == 60
    for _ in range(40):
        sizer.observe(100, 50.0)
    assert sizer.rows(alone=False) == SMALLEST_CHUNK


def test_the_youngest_gives_way_and_never_the_only_one():
    old, young = Reply(1, (0, 1)), Reply(1, (0, 2))
    assert gives_way([young, old]) is young
    assert gives_way([old]) is None
    urgent = Reply(1, (-5, 3))
    assert gives_way([urgent, old]) is old


def test_a_request_waits_for_room_in_the_pool():
    assert fits(500, 0, 1, active=400, pool=1024, headroom=64)
    assert not fits(600, 0, 1, active=400, pool=1024, headroom=64)
    assert fits(600, 500, 1, active=400, pool=1024, headroom=64)
