"""The discovery service: what the hub has, before anything is fetched.

Owns searching page by page, a repository's variants with what of them is here, and model cards.
Every call blocks, asks once and gives up at once: faces run them in a thread. Refuses downloads
(`core/downloads.py`) and judging (`core/fitting.py`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from llmchat.core.models import Models
from llmchat.errors import UsageError
from llmchat.hub.found import SORTS, FoundModel, Page, Sort
from llmchat.library import variants
from llmchat.library.finding import expand, unalias
from llmchat.library.references import Reference, parse_reference

if TYPE_CHECKING:
    from llmchat.hub.client import HubClient
    from llmchat.hub.config import HubConfig

__all__ = ["SORTS", "Discovery", "FoundModel", "Offer", "Page", "Repository", "Sort"]


class Offer(Struct, frozen=True, kw_only=True):
    """A variant of a repository that could be pulled."""

    name: str
    """What to type: `owner/repo:Q4_K_M`."""
    label: str
    files: tuple[str, ...]
    size: int
    """Bytes of the model's files, without a projector."""
    sizes: tuple[int, ...]
    """Bytes of each file."""
    digests: tuple[str, ...]
    """sha256 of each file, as the hub names them."""
    projector: str = ""
    projector_size: int = 0
    here: int = 0
    """Bytes of `files` that are on this disk."""
    usual: bool = False
    """What a reference without a selector means in a pipe."""

    @property
    def identity(self) -> str:
        """64 hex digits for the content of `files`."""
        if len(self.digests) == 1 and len(self.digests[0]) == 64:
            return self.digests[0]
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()


class Repository(Struct, frozen=True, kw_only=True):
    """What a repository offers at one commit."""

    repo: str
    commit: str
    offers: tuple[Offer, ...]
    """Smallest first."""

    def choose(self, selector: str = "") -> Offer:
        """The variant that a selector names, else the one of the fixed rule.

        Raises:
            NotFound: none, or several; the sentence lists what is there.
        """
        groups = [
            variants.Variant(label=offer.label, files=offer.files, size=offer.size)
            for offer in self.offers
        ]
        if selector:
            chosen = variants.choose(groups, selector, repo=self.repo)
        else:
            chosen = variants.fixed_choice(groups, repo=self.repo)
        return self.offers[groups.index(chosen)]


class Discovery:
    """Questions to the hub. One instance may serve several threads."""

    def __init__(
        self, *, environ: Mapping[str, str], models: Models, config: "HubConfig | None" = None
    ) -> None:
        """`config`: which hub; by default what `environ` says."""
        self._environ = environ
        self._models = models
        self._config = config

    def search(self, words: str, *, sort: Sort = "best", limit: int = 20, after: str = "") -> Page:
        """One page of GGUF models; `after` is the `next` of the page before.

        Raises:
            HubError: offline, unreachable, busy, or an answer that cannot be.
        """
        from llmchat.hub.search import search

        with self.client() as client:
            return search(client, words, sort=sort, limit=limit, after=after)

    def repository(self, ref: str, revision: str = "") -> tuple[Repository, Reference]:
        """What a repository offers, and the reference that `ref` stands for.

        Raises:
            UsageError: `ref` names no repository. NotFound: no such repository or revision.
            HubError: the hub.
        """
        reference = self.reference(ref)
        with self.client() as client:
            return self.look(client, reference, revision), reference

    def look(self, client: "HubClient", reference: Reference, revision: str = "") -> Repository:
        """The same, on a connection that is open already."""
        from llmchat.hub.search import once

        repo = reference.repo
        wanted = revision or reference.revision or "main"
        commit = once(client, lambda: client.commit(repo, wanted))
        files = {file.path: file for file in once(client, lambda: client.files(repo, commit))}
        groups = variants.group({path: file.size for path, file in files.items()})
        whole = [group for group in groups if group.kind == "model" and group.complete]
        usual = variants.usual(groups)
        offers = []
        for variant in whole:
            eye = variants.projector_for(variant, groups)
            sizes = tuple(files[path].size for path in variant.files)
            digests = tuple(files[path].digest for path in variant.files)
            offers.append(
                Offer(
                    name=f"{repo}:{variant.label}",
                    label=variant.label,
                    files=variant.files,
                    size=variant.size,
                    sizes=sizes,
                    digests=digests,
                    projector=eye.files[0] if eye else "",
                    projector_size=eye.size if eye else 0,
                    here=self._here(repo, sizes, digests),
                    usual=variant == usual,
                )
            )
        return Repository(repo=repo, commit=commit, offers=tuple(offers))

    def card(self, ref: str, revision: str = "") -> str:
        """A repository's model card as clean text.

        Raises:
            UsageError, NotFound, HubError: as `repository`; NotFound also where there is no card.
        """
        from llmchat.hub.card import fetch_card

        reference = self.reference(ref)
        with self.client() as client:
            return fetch_card(client, reference.repo, revision or reference.revision or "main")

    def reference(self, ref: str) -> Reference:
        """The repository that a reference, an alias or a short name means.

        Raises:
            UsageError: it means none.
        """
        typed = parse_reference(unalias(ref, self._models.aliases))
        reference = expand(typed, self._models.shortnames)
        if reference.kind != "repo":
            raise UsageError("hub.not_a_repository", ref=ref)
        return reference

    @contextmanager
    def client(self) -> "Iterator[HubClient]":
        """A connection to the hub with a waiting person's patience."""
        from llmchat.hub.client import HubClient
        from llmchat.hub.config import find_config
        from llmchat.hub.search import quick

        with HubClient(quick(self._config or find_config(self._environ))) as client:
            yield client

    def _here(self, repo: str, sizes: tuple[int, ...], digests: tuple[str, ...]) -> int:
        from llmchat.hub.cache import RepoFolder

        folder = RepoFolder(self._models.hub_cache, repo)
        return sum(
            size if folder.has(digest, size) else min(folder.partial(digest), size - 1)
            for size, digest in zip(sizes, digests, strict=True)
        )
