"""A worker that does what a script says: `python -m llmchat.engine.scripted`.

Owns a Backend for tests of everything above the engine, through the real shell, socket and process:
it answers without a model, slowly or at once, fails, hangs, and dies in every way a worker can
(script.py has the words). Without a script it quotes the last user message in a short, always
equal Markdown text at 200 tokens a second. Refuses llama_cpp.
"""

import os
import queue
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.engine.assignment import Assignment
from llmchat.engine.backend import BackendStatus, Emit, Verdict, Work
from llmchat.engine.protocol import (
    Count,
    Counted,
    Delta,
    Device,
    Embed,
    Facts,
    Failed,
    Finished,
    Generate,
    Loading,
    Messages,
    Placement,
    Plan,
    Prompt,
    PromptProgress,
    RawText,
    Render,
    Rendered,
    Rerank,
    TemplateFacts,
    TokenInfo,
    Tokenize,
    Tokenized,
)
from llmchat.engine.scripted import vectors
from llmchat.engine.scripted.device import SharedDevice
from llmchat.engine.scripted.script import SIGNALS, Script, ScriptError, Stage, for_message, parse
from llmchat.engine.settling import settle
from llmchat.errors import EngineError
from llmchat.values import FinishReason, ModelFile, Timings, ToolCall, Usage, Wants

if TYPE_CHECKING:
    from llmchat.engine.shell.serving import Shell

_MIB = 1024 * 1024
_READ_STEP = 32
_VOCAB = 1 << 16


class Job:
    """A request in the queue."""

    def __init__(self, work: Work, emit: Emit) -> None:
        self.work = work
        self.emit = emit
        self.arrived = time.monotonic()
        self.cancelled = threading.Event()
        self.passed: set[Stage] = set()


class ScriptedBackend:
    """Follows a script, one request after another. A token is a word with the space before it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pending = 0
        self._step = 0
        self._used = 0
        self._n_ctx = script.n_ctx
        self.shell: Shell | None = None

    # Backend

    def load(
        self,
        model: ModelFile,
        wants: Wants,
        *,
        progress: Callable[[Loading], None],
        proceed: Callable[[Plan], Verdict],
    ) -> Facts:
        """Pretend to load."""
        script = self._script
        placement = self._place(proceed)
        for part in range(11):
            progress(Loading(fraction=part / 10))
            if part == 5:
                self._stage("load", script)
            if self._stopping.wait(script.load / 10):
                raise EngineError("engine.load_given_up")
        if script.load_fail:
            print(script.message, file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
            raise EngineError("engine.failed", reason=script.message)
        self._n_ctx = n_ctx = wants.n_ctx or script.n_ctx
        return Facts(
            model=model.name,
            identity=model.identity,
            architecture="scripted",
            description="scripted 0B",
            n_ctx=n_ctx,
            n_ctx_train=max(n_ctx, script.n_ctx),
            pool=n_ctx,
            n_seq_max=1,
            n_vocab=_VOCAB,
            n_embd=vectors.N_EMBD,
            vocab="scripted",
            capabilities=("chat", "thinking", "tools", "embedding", "rerank"),
            template=TemplateFacts(digest="scripted", thinking="toggle", tools=True),
            placement=placement,
            memory={"model": 48 * _MIB, "context": 12 * _MIB, "compute": 4 * _MIB},
            build="scripted",
            n_threads=wants.n_threads or 1,
        )

    def _place(self, proceed: Callable[[Plan], Verdict]) -> Placement:
        """Memory of the script's device, or of nobody's, asked for as the real backend does."""
        script = self._script
        shared = SharedDevice(Path(script.device), script.total * _MIB, script.late)
        name, needs = ("SIM0", script.needs * _MIB) if script.device else ("CPU", 64 * _MIB)
        placement = Placement(n_layers=4, memory={name: needs}, explanation="scripted")
        while True:
            free = shared.free() if script.device else 4096 * _MIB
            device = Device(name=name, description="scripted", free=free, total=2 * free)
            short = {name: needs - free} if needs > free else {}
            plan = Plan(devices=(device,), needs=placement.memory, short=short, placement=placement)
            verdict = proceed(plan)
            if verdict is Verdict.STOP:
                raise EngineError("engine.load_given_up")
            if verdict is Verdict.AGAIN:
                settle(
                    lambda: {name: shared.free()}, clock=time.monotonic, wait=self._stopping.wait
                )
            elif short:
                raise EngineError("engine.failed", reason="The device is full.")
            else:
                if script.device:
                    shared.take(needs)
                return placement

    def run(self) -> None:
        """Answer requests in the order they came."""
        while not self._stopping.is_set():
            job = self._jobs.get()
            if job is None:
                continue
            self._step += 1
            try:
                self._answer(job)
            finally:
                self._pending -= 1
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                self._end(left)

    def submit(self, work: Work, emit: Emit) -> Callable[[], None]:
        """Queue a request."""
        job = Job(work, emit)
        self._pending += 1
        self._jobs.put(job)
        return job.cancelled.set

    def stop(self) -> None:
        """End what runs, and `run`."""
        self._stopping.set()
        self._jobs.put(None)

    def status(self) -> BackendStatus:
        """How busy it is."""
        return BackendStatus(
            step=self._step,
            n_ctx_used=self._used,
            sequences=int(self._pending > 0),
        )

    def last_lines(self) -> tuple[str, ...]:
        """What a real engine would have logged."""
        return (self._script.message,)

    # answering

    def _answer(self, job: Job) -> None:
        work, emit = job.work, job.emit
        try:
            if isinstance(work, Generate):
                self._generate(work, job)
            elif isinstance(work, Count):
                counts = tuple(len(tokens_of(text)) for text in _texts(work.prompt))
                emit(Counted(id=work.id, tokens=sum(counts), messages=counts))
            elif isinstance(work, Render):
                text = "\n".join(_texts(work.prompt))
                emit(Rendered(id=work.id, text=text, tokens=tuple(map(number, tokens_of(text)))))
            elif isinstance(work, Tokenize):
                pieces = tokens_of(work.text)
                emit(
                    Tokenized(
                        id=work.id,
                        tokens=tuple(map(number, pieces)),
                        pieces=tuple(piece.encode() for piece in pieces),
                    )
                )
            elif isinstance(work, Embed | Rerank):
                emit(vectors.answer(work))
            else:
                emit(Failed(id=work.id, code="unsupported", message="Not in this script."))
        except ScriptError as error:
            emit(Failed(id=work.id, code="bad_request", message=str(error)))

    def _generate(self, work: Generate, job: Job) -> None:
        words, script = for_message(_last_user(work.prompt), self._script)
        if script.fail:
            job.emit(Failed(id=work.id, code=script.fail, message=script.message))
            return
        started = time.monotonic()
        prompt = script.prompt or sum(len(tokens_of(text)) for text in _texts(work.prompt))
        limit = self._n_ctx
        if prompt >= limit:
            message = f"The prompt has {prompt} tokens; the context holds {limit}."
            job.emit(Failed(id=work.id, code="context_exceeded", message=message))
            return
        if not self._read(job, script, prompt):
            self._end(job, prompt=prompt)
            return
        self._stage("first", script, job)
        read = time.monotonic()
        for choice in range(work.n):
            self._reply(work, job, script, words, choice, prompt, read - started)
        self._used = prompt
        self._stage("idle", script, job)

    def _read(self, job: Job, script: Script, total: int) -> bool:
        """Whether the prompt was read to its end."""
        for done in range(0, total, _READ_STEP):
            job.emit(PromptProgress(id=job.work.id, done=done, total=total))
            if done >= total // 2:
                self._stage("read", script, job)
            if script.read and self._pause(job, script, _READ_STEP / script.read):
                return False
        job.emit(PromptProgress(id=job.work.id, done=total, total=total))
        return True

    def _reply(
        self,
        work: Generate,
        job: Job,
        script: Script,
        words: str,
        choice: int,
        prompt: int,
        reading: float,
    ) -> None:
        began = time.monotonic()
        reason: FinishReason = "tool_calls" if script.tool else "stop"
        tokens: list[int] = []
        pieces = list(_pieces(work, script, words, choice))
        for position, (kind, piece) in enumerate(pieces):
            if work.max_tokens is not None and position >= work.max_tokens:
                reason = "length"
                break
            # Against the clock from the start, so that late wake-ups do not add up.
            due = began + (position + 1) / script.rate if script.rate else 0.0
            if due and self._pause(job, script, due - time.monotonic()):
                reason = "cancelled"
                break
            if not script.deaf and (job.cancelled.is_set() or self._stopping.is_set()):
                reason = "cancelled"
                break
            if position == len(pieces) // 2:
                self._stage("reply", script, job)
            tokens.append(number(piece))
            self._step += 1
            info = (TokenInfo(token=tokens[-1]),) if work.want_tokens or work.top_logprobs else ()
            job.emit(Delta(id=work.id, choice=choice, kind=kind, text=piece, tokens=info))
        now = time.monotonic()
        job.emit(
            Finished(
                id=work.id,
                choice=choice,
                reason=reason,
                usage=Usage(prompt_tokens=prompt, read=prompt, completion_tokens=len(tokens)),
                timings=Timings(
                    queued=0.0,
                    prompt=reading,
                    first_token=began - job.arrived,
                    generation=now - began,
                ),
                seed=work.sampling.seed if work.sampling.seed is not None else 42,
                prompt_digest=f"{zlib.crc32(words.encode()):08x}",
                tool_calls=_calls(script) if reason == "tool_calls" else (),
                tokens=tuple(tokens),
                vocab="scripted",
            )
        )

    def _end(self, job: Job, prompt: int = 0) -> None:
        """Finish a request that was cancelled before it wrote anything."""
        if not isinstance(job.work, Generate):
            job.emit(Failed(id=job.work.id, code="not_ready", message="The model is leaving."))
            return
        for choice in range(job.work.n):
            job.emit(
                Finished(
                    id=job.work.id,
                    choice=choice,
                    reason="cancelled",
                    usage=Usage(prompt_tokens=prompt),
                )
            )

    def _pause(self, job: Job, script: Script, seconds: float) -> bool:
        """Wait; True when the request is cancelled meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not script.deaf and (job.cancelled.wait(min(left, 0.05)) or self._stopping.is_set()):
                return True
            if script.deaf:
                time.sleep(min(left, 0.05))
        return False

    # misbehaving

    def _stage(self, stage: Stage, script: Script, job: Job | None = None) -> None:
        """Do what the script has for this stage."""
        if job is not None:
            if stage in job.passed:
                return
            job.passed.add(stage)
        if script.hang == stage:
            threading.Event().wait()
        if script.die is None or script.at != stage or self.shell is None:
            return
        if stage == "idle":
            # The request has ended: let its last frame leave, so that death finds us idle.
            _wait_until_sent(self.shell)
        _DEATHS.get(script.die, _by_signal)(script.die, self.shell)


def tokens_of(text: str) -> list[str]:
    """Words, each with the white space before it; joined they are the text."""
    pieces: list[str] = []
    piece = ""
    for before, character in zip(" " + text, text, strict=False):
        if character.isspace() and not before.isspace() and piece:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece] if piece else pieces


def number(piece: str) -> int:
    """A token id for a piece: the same everywhere and always."""
    return zlib.crc32(piece.encode(errors="replace")) % _VOCAB


def _texts(prompt: Prompt) -> list[str]:
    if isinstance(prompt, Messages):
        return [message.content for message in prompt.messages]
    return [prompt.text] if isinstance(prompt, RawText) else [" x" * len(prompt.tokens)]


def _last_user(prompt: Prompt) -> str:
    if isinstance(prompt, Messages):
        for message in reversed(prompt.messages):
            if message.role == "user":
                return message.content
        return ""
    return _texts(prompt)[-1]


def _pieces(work: Generate, script: Script, words: str, choice: int) -> Iterator[tuple]:  # type: ignore[type-arg]
    for piece in tokens_of(script.think):
        yield "thinking", piece
    forced = work.forced if isinstance(work.forced, str) else ""
    if script.words:
        text = " ".join(f"word{position}" for position in range(script.words))
    else:
        text = script.say or _default_answer(words)
    if choice:
        text = f"({choice + 1}) {text}"
    for piece in tokens_of(forced + text):
        yield "text", piece
    if script.tool:
        yield "tool", script.tool


def _default_answer(words: str) -> str:
    quoted = " ".join(words.split()) or "nothing"
    return (
        f"You said: **{quoted}**\n\n"
        f"- It has {len(words.split())} words.\n"
        f"- A scripted worker answers, not a model.\n"
    )


def _calls(script: Script) -> tuple[ToolCall, ...]:
    name, _, arguments = script.tool.partition(" ")
    return (ToolCall(id="call_1", name=name, arguments=arguments or "{}"),)


# Ways to die


def _by_signal(how: str, _shell: "Shell") -> None:
    os.kill(os.getpid(), signal.Signals[how])
    threading.Event().wait(5)


def _by_exit(how: str, _shell: "Shell") -> None:
    os._exit(int(how.removeprefix("exit")))


def _by_exception(_how: str, _shell: "Shell") -> None:
    raise RuntimeError("The script says so.")


def _on_the_socket(how: str, shell: "Shell") -> None:
    bytes_sent = {
        "close": b"",
        "garbage": b"\x00\x00\x00\x08garbage!",
        "half": b"\x00\x00\x10\x00half",
        "huge": b"\x7f\xff\xff\xff",
    }[how]
    done = threading.Event()

    def act() -> None:
        for connection in list(shell.connections.values()):
            with suppress(OSError):
                connection.sock.send(bytes_sent)
                if how in ("close", "half"):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        done.set()

    shell.post(act)
    done.wait(5)


_DEATHS: dict[str, Callable[[str, "Shell"], None]] = {
    **dict.fromkeys(SIGNALS, _by_signal),
    **dict.fromkeys(("exit0", "exit1"), _by_exit),
    "raise": _by_exception,
    **dict.fromkeys(("close", "garbage", "half", "huge"), _on_the_socket),
}


def _wait_until_sent(shell: "Shell") -> None:
    sent = threading.Event()

    def look() -> None:
        if any(connection.unsent for connection in shell.connections.values()):
            shell.post(look)
        else:
            sent.set()

    shell.post(look)
    sent.wait(5)


def make_backend(assignment: Assignment) -> ScriptedBackend:
    """The backend for an assignment's script."""
    return ScriptedBackend(parse(assignment.script))
