"""A file's bytes from the hub into the cache: located, resumed, retried, proven.

Owns the loop that huggingface_hub 2.4.0 does not have: resume at the byte across runs, retry every
broken connection with a new address, and compare the hash. Refuses to mix: a byte is written only
where it belongs. One process downloads a file; others wait on its lock and watch it grow.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from llmchat.errors import HubError, Interrupted
from llmchat.hub.cache import RepoFolder, require_space
from llmchat.hub.client import HubClient, Located
from llmchat.hub.lanes import Claim, Claims, Helpers
from llmchat.hub.meter import Meter
from llmchat.hub.pace import Pace
from llmchat.hub.partfile import PartFile
from llmchat.hub.plan import DownloadPlan, PlannedFile, Progress
from llmchat.hub.proving import Prover
from llmchat.hub.retry import Patience, Transient
from llmchat.hub.stopping import Unblocker, stoppable

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_POLL = 0.05


def pull(
    client: HubClient,
    folder: RepoFolder,
    plan: DownloadPlan,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
    limit: float = 0.0,
) -> None:
    """Fetch every file of a plan, and name it at its commit. `limit`: bytes a second, 0 = none.

    Raises:
        NotFound, HubError: it cannot be had; the bytes so far stay for the next pull.
        Interrupted: stopped.
    """
    meter = Meter(plan.size, on_progress)
    require_space(folder.folder, plan.size - plan.here)
    pace = Pace(limit)
    for file in plan.files:
        meter.begin(file.path)
        # A repository without its snapshot is a broken one to Hugging Face's own scan.
        folder.prepare(folder.snapshot(plan.commit, file.path))
        if not folder.has(file.digest, file.size):

            def watch(digest: str = file.digest) -> None:
                meter.at("waiting", folder.partial(digest))

            with folder.locked(file.digest, stop, watch):
                if not folder.has(file.digest, file.size):
                    with PartFile(folder, file) as part, Prover(part) as prover:
                        _Transfer(client, plan, part, prover, meter, pace, stop).fetch()
                        proof = prover.finish(lambda n: meter.at("verifying", n), stop)
                        part.publish(proof)
        meter.file_done(file.size)
        folder.link(plan.commit, file.path, file.digest)
    if plan.ref:
        folder.write_ref(plan.ref, plan.commit)
    meter.at("done")


@dataclass(slots=True)
class _Address:
    """Where the hub said the bytes are, until a connection there breaks."""

    where: Located | None
    lock: threading.Lock


class _Transfer:
    """One file on its way, under its blob's lock."""

    def __init__(
        self,
        client: HubClient,
        plan: DownloadPlan,
        part: PartFile,
        prover: Prover,
        meter: Meter,
        pace: Pace,
        stop: threading.Event,
    ) -> None:
        self._client, self._plan, self._part, self._prover = client, plan, part, prover
        self._meter, self._pace, self._stop = meter, pace, stop
        self._address = _Address(None, threading.Lock())
        self._claims = Claims(part)
        self._helpers = Helpers(self._claims, part, client.config, self._help)
        self._unblocker = Unblocker(stop, self._helpers.over)

    def fetch(self) -> None:
        """Until every byte is here.

        Raises:
            NotFound, HubError: it cannot be had. Interrupted: stopped. What came stays.
        """
        with self._unblocker:
            try:
                self._fetch_all()
            finally:
                self._helpers.end()
                self._part.settle()

    def _fetch_all(self) -> None:
        patience = Patience(
            self._client.config,
            self._stop,
            lambda: self._meter.at("retrying", self._part.here),
        )
        best = self._part.here
        while not self._part.whole:
            if self._helpers.problem is not None:
                raise self._helpers.problem
            if self._stop.is_set():
                raise Interrupted
            claim = self._claims.take(self._longest())
            if claim is None:  # the helpers have the rest
                self._stop.wait(_POLL)
                self._meter.at("downloading", self._part.here)
                continue
            if self._address.where is None:
                self._meter.at("asking", self._part.here)
            try:
                self._receive(claim, self._as_main)
            except Transient as problem:
                patience.failed(problem, progressed=self._part.here > best)
                best = max(best, self._part.here)
            finally:
                self._claims.give_back(claim)

    def _longest(self) -> int:
        return self._client.config.step if self._helpers.at_work else self._part.file.size

    def _as_main(self, claim: Claim) -> None:
        """After each piece of the main connection: say so, and see whether it needs help."""
        self._meter.at("downloading", self._part.here)
        if self._pace.limit <= 0:
            self._helpers.consider(claim)
        if self._helpers.problem is not None:
            raise self._helpers.problem

    def _help(self, claim: Claim) -> None:
        self._receive(claim, lambda _: None)

    def _receive(self, claim: Claim, after: Callable[[Claim], None]) -> None:
        """Ask for an address where there is none, and write what one connection to it gives.

        Raises:
            Transient: it broke; what came before stays.
        """
        where = self._locate()
        try:
            url, start, end = where.url, claim.place, claim.end
            stops = (self._stop, self._helpers.over)
            with self._client.stream(url, start, end, self._part.file.size, *stops) as answer:
                self._place(answer, claim, start, end)
                network = answer.extensions.get("network_stream")
                connection = network.get_extra_info("socket") if network else None
                with self._unblocker.reading(connection):
                    self._write(answer, claim, after)
            if claim.place < claim.end:
                raise Transient("the connection ended early")
        except Transient:
            self._forget(where)
            raise

    def _write(self, answer: httpx2.Response, claim: Claim, after: Callable[[Claim], None]) -> None:
        size = self._part.file.size
        for piece in answer.iter_raw():
            if self._stop.is_set() or self._helpers.over.is_set():
                raise Interrupted
            with self._claims.lock:
                # The end may have moved nearer, never the file's own: what follows it is an error.
                wanted = piece if claim.end == size else piece[: claim.end - claim.place]
            self._part.write(claim.place, wanted)
            claim.place += len(wanted)
            self._pace.came(len(piece), self._stop)
            after(claim)
            if claim.place == claim.end < size:
                return

    def _locate(self) -> Located:
        """The address, asked for when there is none."""
        with self._address.lock:
            if self._address.where is None:
                plan, file = self._plan, self._part.file
                where = stoppable(
                    lambda: self._client.locate(plan.repo, plan.commit, file.path),
                    self._stop,
                    self._helpers.over,
                )
                _agrees(where, plan, file)
                self._address.where = where
            return self._address.where

    def _forget(self, where: Located) -> None:
        with self._address.lock:
            if self._address.where is where:
                self._address.where = None

    def _place(self, answer: httpx2.Response, claim: Claim, start: int, end: int) -> None:
        """See that the body begins where the claim does, or begin the whole file again.

        Raises:
            Transient: a range that was not asked for.
        """
        size = self._part.file.size
        if answer.status_code == 200:
            said = answer.headers.get("content-length")
            if said is not None and said != str(size):
                raise Transient(f"Content-Length {said[:20]} instead of {size}")
            if start or self._part.scattered:
                self._start_again(claim)
            return
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None or tuple(map(int, found.groups())) != (start, end - 1, size):
            raise Transient("another range than asked for")

    def _start_again(self, claim: Claim) -> None:
        """The server knows no ranges: with one connection alone, everything comes once more.

        Raises:
            Transient: others are at work, whose bytes count.
        """
        if self._helpers.at_work:
            raise Transient("no ranges")
        self._part.start_again()
        self._prover.start_again()
        self._claims.restart(claim)


def _agrees(where: Located, plan: DownloadPlan, file: PlannedFile) -> None:
    """See that the hub still speaks of the same content.

    Raises:
        HubError: another commit, hash or size than planned.
    """
    pairs = (
        ("commit", where.commit, plan.commit),
        ("ETag", where.digest, file.digest),
        ("size", where.size, file.size),
    )
    for what, said, planned in pairs:
        if said is not None and said != planned:
            raise HubError(
                "hub.changed", what=what, file=file.path, want=planned, got=said, repo=plan.repo
            )
