"""When a worker leaves: wishes and times, without a process."""

import math

from llmchat.engine.shell.keepalive import KeepAlive


def test_idle_counts_from_the_last_request():
    policy = KeepAlive(300, now=10)
    assert policy.leaves_at(busy=False) == 310
    policy.touched(50)
    assert policy.leaves_at(busy=False) == 350
    assert policy.leaves_at(busy=True) == math.inf


def test_the_largest_wish_of_those_connected_wins():
    policy = KeepAlive(300, now=0)
    policy.joined(1, 5)
    assert policy.leaves_at(busy=False) == 5
    policy.joined(2, 60)
    assert policy.leaves_at(busy=False) == 60
    policy.joined(3, -1)
    assert policy.leaves_at(busy=False) == math.inf
    policy.left(3)
    policy.left(2)
    assert policy.leaves_at(busy=False) == 5


def test_zero_leaves_with_the_last_client():
    policy = KeepAlive(300, now=0)
    policy.joined(1, 0)
    assert policy.leaves_at(busy=False) == math.inf
    policy.left(1)
    assert policy.leaves_at(busy=False) == 0


def test_a_client_without_a_wish_takes_what_stands():
    policy = KeepAlive(300, now=0)
    policy.joined(1, -1)
    policy.left(1)
    assert policy.seconds == -1
    policy.joined(2, None)
    policy.left(2)
    assert policy.seconds == -1


def test_a_passing_zero_does_not_cut_short_who_was_there_before():
    policy = KeepAlive(300, now=0)
    policy.joined(1, None)
    policy.joined(2, 0)
    policy.left(2)
    policy.left(1)
    assert policy.seconds == 300


def test_unknown_connections_do_not_matter():
    policy = KeepAlive(0, now=7)
    policy.left(99)
    assert policy.leaves_at(busy=False) == 7
