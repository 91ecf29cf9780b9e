"""A pull on the command line: a bar, Ctrl+C that leaves no mess, or lines of JSON.

The pull runs in a thread, so that Ctrl+C is heard while a server is silent.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from llmchat.cli.output import answer_json, end_status, note, status
from llmchat.cli.parts import open_downloads
from llmchat.cli.progress import Bar
from llmchat.core.downloads import DownloadPlan, Progress
from llmchat.errors import Interrupted
from llmchat.text import say
from llmchat.values import ModelFile

PATIENCE = 2.0
"""Seconds that a stopped pull gets to put its things away."""

LINE_PAUSE = 0.5
"""Seconds between two lines of JSON of the same stage."""


def look_up(
    ref: str, *, revision: str = "", projector: bool = True, drafter: bool = False
) -> DownloadPlan:
    """Ask what a pull of `ref` would fetch, and say why when `ref` names no variant.

    Ctrl+C is heard at once.

    Raises:
        LlmchatError: see `Downloads.plan`. Interrupted: Ctrl+C.
    """
    from llmchat.cli.selecting import choose, names_variant, say_fixed

    status(say("cli.looking_up", ref=ref))
    try:
        exact = choose(ref, revision)
        plan = open_downloads().plan(exact, revision=revision, projector=projector, drafter=drafter)
        end_status()
        if plan.source == "huggingface" and not names_variant(exact):
            say_fixed(plan)
        return plan
    except KeyboardInterrupt:
        raise Interrupted from None
    finally:
        end_status()


def fetch(plan: DownloadPlan, *, as_json: bool = False, limit: float = 0.0) -> ModelFile:
    """Pull what `plan` lacks and show how it goes; at most `limit` bytes a second, 0 = any.

    Raises:
        LlmchatError: it cannot be had. Interrupted: Ctrl+C; what came stays for the next pull.
    """
    if as_json:
        return _pull(plan, _json_lines(plan.name), lambda: None, limit)
    latest: deque[Progress] = deque(maxlen=1)
    with Bar(plan.name) as bar:
        # Only this thread draws, from what came last: the line is true also while nothing comes.
        return _pull(plan, latest.append, lambda: _draw(bar, plan.name, latest), limit)


def _draw(bar: Bar, name: str, latest: deque[Progress]) -> None:
    if not latest:
        return
    progress = latest[-1]
    if progress.stage == "downloading":
        bar.bytes(name, progress.done, progress.total, progress.rate)
    elif progress.stage != "done":
        share = progress.done / progress.total if progress.total else 0.0
        bar.share(name, share, say(f"cli.stage_{progress.stage}"))


def _json_lines(name: str) -> Callable[[Progress], None]:
    last: tuple[str, str] = ("", "")
    written = 0.0

    def line(progress: Progress) -> None:
        nonlocal last, written
        now, place = time.monotonic(), (progress.stage, progress.file)
        if place != last or now - written >= LINE_PAUSE:
            last, written = place, now
            answer_json({"name": name} | msgspec.to_builtins(progress))

    return line


def _pull(
    plan: DownloadPlan,
    show: Callable[[Progress], None],
    tick: Callable[[], None],
    limit: float,
) -> ModelFile:
    """Pull in a thread that calls `show`; this one calls `tick` ten times a second."""
    stop = threading.Event()
    carried = _Carried()
    results: list[ModelFile] = []

    def work() -> None:
        with carried:
            results.append(open_downloads().pull(plan, show, stop, limit=limit))

    thread = threading.Thread(target=work, name="pull", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            tick()
    except KeyboardInterrupt:
        stop.set()
        thread.join(PATIENCE)
        raise Interrupted from None
    if carried.problem is not None:
        raise carried.problem
    return results[0]


class _Carried:
    """Carries whatever a thread fails with to the thread that waits for it."""

    def __init__(self) -> None:
        self.problem: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> bool:
        self.problem = problem
        return True


def say_plan(plan: DownloadPlan) -> None:
    """What a pull will do, before its first byte."""
    from llmchat.cli.amounts import size

    if plan.complete:
        note(say("cli.pull_here", name=plan.name, size=size(plan.size)))
        return
    source = say(f"cli.source_{plan.source}")
    note(say("cli.plan", name=plan.name, size=size(plan.size - plan.here), source=source))
    if plan.offered:
        note(say("cli.plan_offers", files=", ".join(plan.offered)))
