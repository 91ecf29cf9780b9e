"""Free memory after others have left: on recorded values and a clock that only the waits move."""

from collections.abc import Iterator

import pytest

from llmchat.engine.settling import MOST, NOISE, settle

MIB = 1 << 20


class Device:
    """What a device said, one value a look, the last one for ever; and the time of each look."""

    def __init__(self, said: list[int]) -> None:
        self._said: Iterator[int] = iter(said)
        self._last = 0
        self.now = 0.0

    def read(self) -> dict[str, int]:
        self._last = next(self._said, self._last)
        return {"CUDA0": self._last}

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def settled(self) -> int:
        return settle(self.read, clock=lambda: self.now, wait=self.wait)["CUDA0"]


# A process of 20 GiB on an 80 GiB device: the driver gives its memory back in pieces.
RECORDED = [60_000, 60_000, 64_096, 64_096, 70_010, 79_000, 79_800, 80_000, 80_000]


def test_it_waits_until_everything_is_back():
    device = Device([mib * MIB for mib in RECORDED])
    assert device.settled() == 80_000 * MIB
    assert device.now == pytest.approx(0.55, abs=0.06)


def test_what_stands_still_is_taken_after_a_fifth_of_a_second():
    device = Device([5 * MIB])
    assert device.settled() == 5 * MIB
    assert device.now == pytest.approx(0.2, abs=0.06)


def test_noise_does_not_count():
    device = Device([100 * MIB + step % 2 * NOISE // 2 for step in range(1000)])
    device.settled()
    assert device.now < 0.3


def test_it_does_not_wait_for_ever():
    device = Device([step * 100 * MIB for step in range(1000)])
    device.settled()
    assert device.now == pytest.approx(MOST, abs=0.1)
