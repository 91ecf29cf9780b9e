"""A file's bytes from the hub into the cache: located, resumed, retried, proven.

Owns the loop that huggingface_hub 2.4.0 does not have: resume at the byte across runs, retry every
broken connection with a new address, and compare the hash. Refuses to mix: a byte is appended only
where it belongs. One process downloads a file; others wait on its lock and watch it grow.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from llmchat.errors import HubError, Interrupted
from llmchat.hub.cache import RepoFolder, require_space
from llmchat.hub.client import HubClient, Located
from llmchat.hub.meter import Meter
from llmchat.hub.partfile import PartFile
from llmchat.hub.plan import DownloadPlan, PlannedFile, Progress
from llmchat.hub.retry import Patience, Transient

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


def pull(
    client: HubClient,
    folder: RepoFolder,
    plan: DownloadPlan,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
) -> None:
    """Fetch every file of a plan, and name it at its commit.

    Raises:
        NotFound, HubError: it cannot be had; the bytes so far stay for the next pull.
        Interrupted: stopped.
    """
    transfer = _Transfer(client, folder, plan, Meter(plan.size, on_progress), stop)
    require_space(folder.folder, plan.size - plan.here)
    for file in plan.files:
        transfer.fetch(file)
        folder.link(plan.commit, file.path, file.digest)
    if plan.ref:
        folder.write_ref(plan.ref, plan.commit)
    transfer.meter.at("done")


@dataclass(slots=True)
class _Transfer:
    """What stays the same while the files of one plan are fetched."""

    client: HubClient
    folder: RepoFolder
    plan: DownloadPlan
    meter: Meter
    stop: threading.Event

    def fetch(self, file: PlannedFile) -> None:
        """One file, as blob. Returns at once when it is whole already."""
        self.meter.begin(file.path)
        if not self.folder.has(file.digest, file.size):

            def watch() -> None:
                self.meter.at("waiting", self.folder.partial(file.digest))

            with self.folder.locked(file.digest, self.stop, watch):
                if not self.folder.has(file.digest, file.size):
                    self._fetch_alone(file)
        self.meter.file_done(file.size)

    def _fetch_alone(self, file: PlannedFile) -> None:
        """Under the blob's lock: read back, go on, prove, publish."""
        with PartFile(self.folder, file) as part:
            part.read_back(lambda count: self.meter.at("verifying", count), self.stop)
            patience = Patience(
                self.client.config, self.stop, lambda: self.meter.at("retrying", part.length)
            )
            best = part.length
            while part.length < file.size:
                try:
                    self._try_once(file, part)
                except Transient as problem:
                    patience.failed(problem, progressed=part.length > best)
                    best = max(best, part.length)
            part.publish()

    def _try_once(self, file: PlannedFile, part: PartFile) -> None:
        """Ask for an address, and append what one connection to it gives.

        Raises:
            Transient: it broke; what came before stays.
        """
        if self.stop.is_set():
            raise Interrupted
        self.meter.at("asking", part.length)
        where = self.client.locate(self.plan.repo, self.plan.commit, file.path)
        _agrees(where, self.plan, file)
        with (
            self.client.stream(where.url, part.length) as answer,
            _unblocked_by(self.stop, answer),
        ):
            _place(answer, file, part)
            for piece in answer.iter_raw():
                if self.stop.is_set():
                    raise Interrupted
                part.append(piece)
                self.meter.at("downloading", part.length)
        if part.length < file.size:
            raise Transient("the connection ended early")


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


def _place(answer: httpx2.Response, file: PlannedFile, part: PartFile) -> None:
    """See that the body begins where the part ends, or begin again.

    Raises:
        Transient: a range that was not asked for.
    """
    if answer.status_code == 200:
        said = answer.headers.get("content-length")
        if said is not None and said != str(file.size):
            raise Transient(f"Content-Length {said[:20]} instead of {file.size}")
        if part.length:
            part.start_again()
        return
    expected = (part.length, file.size - 1, file.size)
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if found is None or tuple(int(number) for number in found.groups()) != expected:
        raise Transient("another range than asked for")


@contextmanager
def _unblocked_by(stop: threading.Event, answer: httpx2.Response) -> Iterator[None]:
    """Shut the connection when `stop` is set, so that a stalled read returns at once."""
    network = answer.extensions.get("network_stream")
    connection = network.get_extra_info("socket") if network else None
    done = threading.Event()

    def shut() -> None:
        while not done.wait(0.1):
            if stop.is_set():
                if isinstance(connection, socket.socket):
                    _shutdown(connection)
                return

    watcher = threading.Thread(target=shut, name="llmchat-pull-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _shutdown(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
