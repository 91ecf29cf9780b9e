"""The hub's own calls, over httpx2: a revision, a tree, where a file's bytes are, and the bytes.

Owns redirects (by hand: the token goes to the hub's origin alone), statuses, time-outs and limits
on what an answer may weigh. Refuses compressed bodies, plain HTTP to other machines, and every
value that `answers.py` does not pass. Protocol: what huggingface_hub 2.4.0 asks.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import httpx2
import msgspec

import llmchat
from llmchat.errors import HubError, LlmchatError, NotFound
from llmchat.hub.answers import (
    ModelInfo,
    RepoFile,
    TreeEntry,
    bad_answer,
    commit_of,
    etag_of,
    repo_file,
    repo_of,
    size_of,
)
from llmchat.hub.config import HubConfig, is_loopback
from llmchat.hub.retry import Transient
from llmchat.hub.stopping import stoppable

MAX_JSON = 16 * 1024 * 1024
MAX_PAGES = 100
MAX_ENTRIES = 100_000
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Located:
    """Where a file's bytes are, as the hub just said; the address may expire."""

    url: str
    digest: str | None
    size: int | None
    commit: str | None


class HubClient:
    """One user's connection to one hub. Close it, or use it as a context manager."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self._origin = _origin(config.endpoint)
        self._http = httpx2.Client(
            follow_redirects=False,
            timeout=httpx2.Timeout(config.read_timeout, connect=config.connect_timeout),
            headers={
                "User-Agent": f"llmchat/{llmchat.__version__}",
                "Accept-Encoding": "identity",
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._http.close()

    def commit(self, repo: str, revision: str) -> str:
        """The commit that a branch, tag or commit names.

        Raises:
            NotFound: no such repository or revision. HubError: anything else. Transient: try again.
        """
        return self.revision(repo, revision).sha

    def revision(self, repo: str, revision: str) -> ModelInfo:
        """The commit that a branch, tag or commit names, and the name that the repository has now.

        Raises:
            NotFound, HubError, Transient: see `commit`.
        """
        url = self._api(f"{repo}/revision/{quote(revision, safe='')}")
        body, _ = self._json(url, repo)
        info = _decode(body, ModelInfo)
        return ModelInfo(sha=commit_of(info.sha), id=repo_of(info.id) or repo)

    def files(self, repo: str, commit: str) -> list[RepoFile]:
        """Every acceptable file of a repository at one commit.

        Raises:
            NotFound, HubError, Transient: see `commit`.
        """
        url = self._api(f"{repo}/tree/{commit}") + "?recursive=true"
        found: list[RepoFile] = []
        entries = 0
        for _ in range(MAX_PAGES):
            body, following = self._json(url, repo)
            page = _decode(body, list[TreeEntry])
            entries += len(page)
            if entries > MAX_ENTRIES:
                break
            found += [file for entry in page if (file := repo_file(entry))]
            if following is None:
                return found
            url = self._next(url, following)
        raise HubError("hub.too_many_files", repo=repo, limit=MAX_ENTRIES)

    def body(self, tail: str, repo: str) -> tuple[bytes, str | None]:
        """What the endpoint answers at `tail` (`/api/...`), at most 16 MiB, and its next page.

        The next page is a tail again; one that leads to another origin is an answer we refuse.

        Raises:
            NotFound, HubError, Transient: see `commit`.
        """
        url = f"{self.config.endpoint}{tail}"
        body, following = self._json(url, repo)
        if following is None:
            return body, None
        return body, self._next(url, following).removeprefix(self.config.endpoint)

    def locate(self, repo: str, commit: str, path: str, *, timeout: float | None = None) -> Located:
        """Ask where a file's bytes are, and what the hub says they are.

        Raises:
            NotFound, HubError, Transient: see `commit`.
        """
        url = f"{self.config.endpoint}/{repo}/resolve/{commit}/{quote(path)}"
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send("HEAD", url, timeout=timeout)
            if answer.status_code not in (200, *_REDIRECTS):
                raise self._refusal(answer, repo, path)
            headers = answer.headers
            target = url
            if answer.status_code in _REDIRECTS:
                target = self._target(url, headers.get("location"))
                if _origin(target) == self._origin:
                    url = target
                    continue
            linked = headers.get("x-linked-size")
            if linked is None and answer.status_code == 200:
                linked = headers.get("content-length")
            said = headers.get("x-repo-commit")
            return Located(
                url=target,
                digest=etag_of(headers.get("x-linked-etag")),
                size=size_of(linked),
                commit=commit_of(said) if said else None,
            )
        raise bad_answer("redirects", url)

    @contextmanager
    def stream(
        self, url: str, start: int, end: int, size: int, *stops: threading.Event
    ) -> Iterator[httpx2.Response]:
        """Bytes `[start, end)` of the `size` at `url`: an answer of status 200 or 206.

        Raises:
            HubError: it cannot be had. Transient: try again, best with a new address.
            Interrupted: one of `stops` was set before there was an answer.
        """
        headers = _range(start, end, size)
        for _ in range(MAX_REDIRECTS + 1):
            with _transport_errors():
                request = self._http.build_request(
                    "GET", url, headers=headers | self._authorization(url)
                )
                response = self._opened(request, stops)
            try:
                if response.status_code in _REDIRECTS:
                    url = self._target(url, response.headers.get("location"))
                    continue
                _accept_bytes(response)
                with _transport_errors():
                    yield response
                return
            finally:
                response.close()
        raise bad_answer("redirects", url)

    def _opened(
        self, request: httpx2.Request, stops: tuple[threading.Event, ...]
    ) -> httpx2.Response:
        return stoppable(
            lambda: self._http.send(request, stream=True),
            *stops,
            dispose=lambda response: response.close(),
        )

    def _api(self, tail: str) -> str:
        return f"{self.config.endpoint}/api/models/{tail}"

    def _authorization(self, url: str) -> dict[str, str]:
        if self.config.token is None or _origin(url) != self._origin:
            return {}
        return {"Authorization": f"Bearer {self.config.token}"}

    def _send(self, method: str, url: str, *, timeout: float | None = None) -> httpx2.Response:
        with _transport_errors():
            return self._http.request(
                method,
                url,
                headers=self._authorization(url),
                timeout=httpx2.USE_CLIENT_DEFAULT if timeout is None else timeout,
            )

    def _json(self, url: str, repo: str) -> tuple[bytes, str | None]:
        """A JSON body within the limit, and the address of the next page."""
        for _ in range(MAX_REDIRECTS + 1):
            with (
                _transport_errors(),
                self._http.stream("GET", url, headers=self._authorization(url)) as answer,
            ):
                if answer.status_code in _REDIRECTS:
                    url = self._target(url, answer.headers.get("location"))
                    if _origin(url) != self._origin:
                        raise bad_answer("redirect", url)
                    continue
                if answer.status_code != 200:
                    raise self._refusal(answer, repo, "")
                following = _NEXT.search(answer.headers.get("link", ""))
                return _bounded(answer), following[1] if following else None
        raise bad_answer("redirects", url)

    def _next(self, url: str, following: str) -> str:
        """The address of the next page: on this endpoint, or it is none."""
        try:
            target = urljoin(url, following)
            here = _origin(target) == self._origin
        except ValueError as error:
            raise bad_answer("Link", following) from error
        if not here or not target.startswith(f"{self.config.endpoint}/"):
            raise bad_answer("Link", following)
        return target

    def _target(self, url: str, location: str | None) -> str:
        """Where a redirect leads, if we may go there."""
        if not location or not location.isprintable():
            raise bad_answer("Location", location)
        try:
            target = urljoin(url, location)
            address = urlsplit(target)
            host, _ = address.hostname or "", address.port
        except ValueError as error:
            raise bad_answer("Location", location) from error
        here = is_loopback(urlsplit(self.config.endpoint).hostname or "")
        plain = address.scheme == "http" and here and is_loopback(host)
        if not host or address.username or not (address.scheme == "https" or plain):
            raise bad_answer("Location", location)
        return target

    def _refusal(self, answer: httpx2.Response, repo: str, path: str) -> LlmchatError | Transient:
        """The error for a status that is no success."""
        status = answer.status_code
        if status in _TRANSIENT or status >= 500:
            return _busy(answer)
        code = answer.headers.get("x-error-code", "")
        signed_in = self.config.token is not None
        if code == "GatedRepo":
            return HubError("hub.gated", repo=repo, url=f"{self.config.endpoint}/{repo}")
        if code == "RevisionNotFound":
            return NotFound("hub.no_revision", repo=repo)
        if code == "EntryNotFound":
            return NotFound("hub.no_file", repo=repo, file=path)
        if status in (401, 403) and signed_in and code != "RepoNotFound":
            return HubError("hub.not_allowed", repo=repo, status=status)
        if status in (401, 404) or code == "RepoNotFound":
            return NotFound("hub.no_repo", repo=repo)
        if status == 403:
            return HubError("hub.not_allowed", repo=repo, status=status)
        if status == 410:
            return NotFound("hub.gone", repo=repo)
        return HubError("hub.refused", status=status, url=f"{self.config.endpoint}/{repo}")


def _origin(url: str) -> tuple[str, str, int]:
    address = urlsplit(url)
    default = 443 if address.scheme == "https" else 80
    return address.scheme, (address.hostname or "").lower(), address.port or default


def _range(start: int, end: int, size: int) -> dict[str, str]:
    if end < size:
        return {"Range": f"bytes={start}-{end - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}


def _busy(answer: httpx2.Response) -> Transient:
    after = answer.headers.get("retry-after", "")
    return Transient(
        f"HTTP {answer.status_code}",
        wait=float(after) if re.fullmatch(r"\d{1,6}", after) else None,
        limited=answer.status_code == 429,
    )


def _accept_bytes(response: httpx2.Response) -> None:
    """Pass an answer whose body is the file's own bytes.

    Expired addresses answer 401, 403 or 404: worth a new one, so they are transient here.
    """
    if response.status_code not in (200, 206):
        raise _busy(response)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Transient("compressed answer")


def _bounded(answer: httpx2.Response) -> bytes:
    body = bytearray()
    for piece in answer.iter_raw():
        body += piece
        if len(body) > MAX_JSON:
            raise bad_answer("JSON", f"> {MAX_JSON} bytes")
    return bytes(body)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_answer("JSON", error) from error


@contextmanager
def _transport_errors() -> Iterator[None]:
    """Broken connections and time-outs as `Transient`, addresses that are none as an answer."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise bad_answer("address", error) from error
    except httpx2.TransportError as error:
        raise Transient(str(error) or type(error).__name__) from error
