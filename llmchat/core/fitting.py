"""The fitting service: whether a model fits this machine, before it is fetched and after.

Owns getting at what a judgement needs: a file's header, or a range of it on the hub, and the
devices with what is free on them now. The judgement itself is `core/judging.py`. Every call blocks.
Refuses to load anything.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from llmchat.core.discovery import Offer, Repository
from llmchat.core.judging import Fit, Judged, Use, Verdict, best_of, judge, resized
from llmchat.core.models import Models
from llmchat.engine.protocol import Device
from llmchat.errors import HubError, ModelFileError
from llmchat.gguf import Header, Shape
from llmchat.library.shapes import Shapes
from llmchat.values import ModelFile, Wants

if TYPE_CHECKING:
    from llmchat.core.discovery import Discovery
    from llmchat.hub.client import HubClient

__all__ = ["Fit", "Fits", "Judged", "Use", "Verdict"]

ANY: Final = Wants()


class Fits:
    """Judgements. `devices` is asked once for each answer: free memory changes."""

    def __init__(
        self,
        *,
        models: Models,
        devices: Callable[[], Sequence[Device]],
        discovery: "Discovery | None" = None,
    ) -> None:
        self._models = models
        self._devices = devices
        self._discovery = discovery
        self._shapes = Shapes(models.places.cache / "shapes")

    def of(self, model: ModelFile, wants: Wants = ANY, *, name: str = "") -> Fit:
        """How a model on this disk fits.

        Raises:
            ModelFileError: its header cannot be read. EngineError: no engine to ask for devices.
        """
        shape = self._shapes.of_files(model.identity, model.shards or (model.path,))
        return judge(
            name or model.name, shape, _file_size(model.projector), wants, self._devices(),
            closely=True,
        )  # fmt: skip

    def each(self, models: Sequence[ModelFile], wants: Wants = ANY) -> dict[str, Verdict]:
        """The verdict for each model whose header can be read, by name."""
        devices, found = self._devices(), {}
        for model in models:
            try:
                shape = self._shapes.of_files(model.identity, model.shards or (model.path,))
            except ModelFileError:
                continue
            eye = _file_size(model.projector)
            found[model.name] = judge(model.name, shape, eye, wants, devices).verdict
        return found

    def remote(self, ref: str, wants: Wants = ANY, revision: str = "") -> Fit:
        """How a variant of a hub's repository would fit, from a range of its header.

        Raises:
            UsageError, NotFound, HubError: as `Discovery.repository`.
            ModelFileError: what is there is no GGUF.
        """
        with self._asking().client() as client:
            reference = self._asking().reference(ref)
            repository = self._asking().look(client, reference, revision)
            offer = repository.choose(reference.selector)
            shape = self._shape(client, repository, offer)
        return judge(offer.name, shape, offer.projector_size, wants, self._devices(), closely=True)

    def variants(self, ref: str, wants: Wants = ANY, revision: str = "") -> list[Judged]:
        """Every variant of a repository with its fit, smallest first, and the best marked.

        One header is read, the usual variant's: the others differ in their weights, whose bytes
        the hub says. Without a header that can be read there is no fit.

        Raises:
            UsageError, NotFound, HubError: as `Discovery.repository`.
        """
        with self._asking().client() as client:
            reference = self._asking().reference(ref)
            repository = self._asking().look(client, reference, revision)
            shape = self._one_shape(client, repository)
        if shape is None:
            return [Judged(offer=offer, fit=None) for offer in repository.offers]
        devices = self._devices()
        judged = [
            Judged(
                offer=offer,
                fit=judge(
                    offer.name, resized(shape, offer.size), offer.projector_size, wants, devices
                ),
            )
            for offer in repository.offers
        ]
        best = best_of(judged)
        return [replace(row, best=row is best) for row in judged]

    def _one_shape(self, client: "HubClient", repository: Repository) -> Shape | None:
        offers = sorted(repository.offers, key=lambda o: (not o.usual, len(o.files), o.size))
        for offer in offers[:2]:
            try:
                return self._shape(client, repository, offer)
            except (ModelFileError, HubError):
                continue  # gated, or no GGUF: what is offered can be told all the same
        return None

    def _shape(self, client: "HubClient", repository: Repository, offer: Offer) -> Shape:
        """The shape of a variant that is not here, remembered by its content.

        Raises:
            ModelFileError: what is there is no GGUF. HubError: the hub.
        """
        from llmchat.hub.remote import read_remote

        def read() -> list[Header]:
            sizes = zip(offer.files, offer.sizes, strict=True)
            return [
                read_remote(client, repository.repo, repository.commit, path, size)
                for path, size in sizes
            ]

        return self._shapes.remembered(offer.identity, read)

    def _asking(self) -> "Discovery":
        if self._discovery is None:
            raise RuntimeError("these Fits were built without a hub")
        return self._discovery


def _file_size(path: str | None) -> int:
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0
