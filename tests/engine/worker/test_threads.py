"""Threads beside busy neighbours: on a model of a machine that is stepped without waiting."""

import itertools

import pytest

from llmchat.engine.worker.threads import ThreadGovernor


class Machine:
    """Cores that neighbours share, and a step that needs `work` CPU seconds.

    Threads meet at barriers: when there are more runners than cores, the slowest thread's share
    decides, and each barrier costs a turn of the system's scheduler on top. The figures for two
    cores are measured (reference: 13 ms alone, 114 ms beside one neighbour, 23.5 ms on one thread).
    """

    def __init__(self, cores: int, work: float = 0.026) -> None:
        self.cores = cores
        self.work = work
        self.neighbours = 0
        self.now = 0.0

    def step(self, threads: int) -> tuple[float, float]:
        """Seconds and CPU seconds of a step."""
        seconds = self.work / threads
        crowd = threads + self.neighbours - self.cores
        if crowd <= 0:
            return seconds, 0.99 * threads * seconds
        seconds *= 8.8 if threads > 1 else 2
        return seconds, threads * seconds - 0.5 * min(crowd, threads) * seconds


def run(governor: ThreadGovernor, machine: Machine, steps: int) -> float:
    """Seconds that steps take, the governor listening."""
    begin = machine.now
    for _ in range(steps):
        seconds, cpu = machine.step(governor.n)
        machine.now += seconds
        governor.observe(seconds, cpu, machine.now)
    return machine.now - begin


def test_a_quiet_machine_loses_nothing():
    governor, machine = ThreadGovernor(2), Machine(2)
    assert run(governor, machine, 2000) == pytest.approx(2000 * 0.013)
    assert governor.n == 2


def test_a_neighbour_that_was_there_before_does_not_cost_five_times():
    governor, machine = ThreadGovernor(2), Machine(2)
    machine.neighbours = 1
    assert run(governor, machine, 2000) < 2000 * 0.026 * 1.06  # one thread's pace, nearly
    assert governor.n == 1


def test_slow_steps_are_judged_sooner():
    governor, machine = ThreadGovernor(2), Machine(2, work=0.4)
    machine.neighbours = 1
    run(governor, machine, 2)
    assert governor.n == 1


def test_all_threads_come_back_when_the_neighbour_has_gone():
    governor, machine = ThreadGovernor(2), Machine(2)
    run(governor, machine, 100)
    machine.neighbours = 1
    run(governor, machine, 4000)
    assert governor.n == 1
    machine.neighbours = 0
    run(governor, machine, int(ThreadGovernor.LAST_PAUSE / 0.026) + 100)
    assert governor.n == 2


def test_a_host_that_takes_a_core_for_a_moment_costs_hardly_more_than_that():
    governor, machine = ThreadGovernor(2), Machine(2)
    for _ in range(20):
        machine.neighbours = 1
        begin = machine.now
        while machine.now < begin + 0.3:
            run(governor, machine, 1)
        machine.neighbours = 0
        run(governor, machine, int(ThreadGovernor.LAST_PAUSE / 0.013))
        assert governor.n == 2
        assert run(governor, machine, 100) == pytest.approx(100 * 0.013)


def test_steps_of_another_size_are_not_compared():
    governor, machine = ThreadGovernor(2), Machine(2)
    machine.neighbours = 1
    while governor.n == 2:
        run(governor, machine, 1)
    governor.forget()  # amid the trial
    assert governor.n == 2
    run(governor, machine, 100)
    machine.neighbours = 0
    while governor.n == 1:
        run(governor, machine, 1)
    governor.forget()  # amid the probe
    assert governor.n == 1
    run(governor, machine, int(ThreadGovernor.LAST_PAUSE / 0.026) + 100)
    assert governor.n == 2


def test_one_busy_core_of_eight_costs_one_thread_not_all():
    governor, machine = ThreadGovernor(8), Machine(8, work=0.1)
    machine.neighbours = 1
    run(governor, machine, 200)
    assert governor.n == 7


def test_where_fewer_threads_do_not_help_all_are_kept():
    """A GPU computes: the threads sleep, their number does not matter."""
    governor, now = ThreadGovernor(8), 0.0
    kept = 0
    for _ in range(5000):
        now += 0.02
        kept += governor.observe(0.02, 0.004, now) == 8
    assert kept > 4800


def test_a_hiccup_changes_nothing():
    governor, machine = ThreadGovernor(2), Machine(2)
    for number in itertools.count():
        run(governor, machine, 7)
        governor.observe(0.030, 0.052, machine.now)  # one step was late by 4 ms of one core
        assert governor.n == 2
        if number == 50:
            break


def test_one_thread_stays_and_forgetting_begins_anew():
    alone, machine = ThreadGovernor(1), Machine(1)
    machine.neighbours = 3
    run(alone, machine, 100)
    assert alone.n == 1
    governor = ThreadGovernor(2)
    for _ in range(5):
        for _ in range(ThreadGovernor.WINDOW - 1):
            governor.observe(0.05, 0.05, 1.0)
        governor.forget()
    assert governor.n == 2
