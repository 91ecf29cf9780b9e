"""What a worker does with each request: answers it, or hands it to the backend.

Runs on the shell's thread, so Ping, Status and Cancel are answered while the loop computes. Refuses
to trust a frame: what cannot be read ends that connection or that request, never the worker.
"""

import os
from typing import TYPE_CHECKING

import msgspec

import llmchat
from llmchat.engine.assignment import Leaving
from llmchat.engine.backend import Verdict, Work
from llmchat.engine.protocol import (
    MAX_CHOICES,
    PROTOCOL_VERSION,
    Cancel,
    Done,
    Failed,
    Generate,
    Hello,
    KeepAlive,
    Ping,
    Placement,
    Pong,
    Proceed,
    ProtocolError,
    Ready,
    Request,
    Shutdown,
    StatusRequest,
    Welcome,
    WorkerStatus,
    decode_request,
)
from llmchat.engine.registry import binding_build
from llmchat.engine.shell.connections import Connection
from llmchat.engine.shell.outbox import refusal

if TYPE_CHECKING:
    from llmchat.engine.shell.serving import Shell


class Reception:
    """Answers requests for a shell."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell

    def take(self, connection: Connection, body: bytes) -> None:
        """Handle one frame.

        Raises:
            ProtocolError: bytes that are no message at all: close the connection.
        """
        try:
            request = decode_request(body)
        except ProtocolError:
            connection.outbox.put(_unreadable(body))
            return
        if isinstance(request, Hello):
            self._hello(connection, request)
        elif isinstance(request, StatusRequest):
            connection.outbox.put(self._status(connection, request.id))
        elif isinstance(request, Shutdown):
            self._shutdown(connection, request)
        elif not connection.greeted:
            raise ProtocolError("engine.bad_frame", reason=type(request).__name__)
        else:
            self._take_greeted(connection, request)

    def _take_greeted(self, connection: Connection, request: Request) -> None:
        shell = self._shell
        if isinstance(request, Ping):
            status = shell.backend.status()
            connection.outbox.put(Pong(id=request.id, step=status.step, busy=shell.busy))
        elif isinstance(request, Cancel):
            connection.cancel(request.target)
        elif isinstance(request, Proceed):
            self._proceed(request)
        elif isinstance(request, KeepAlive):
            shell.keep_alive.joined(connection.number, request.seconds)
            connection.outbox.put(Done(id=request.id))
        elif isinstance(request, Work):
            self._work(connection, request)

    def _proceed(self, request: Proceed) -> None:
        plan = self._shell.plan
        if plan is None or plan.number != request.plan:
            return  # somebody was quicker
        self._shell.plan = None
        again = Verdict.AGAIN if request.again else Verdict.GO
        self._shell.inference.proceed(again if request.go else Verdict.STOP)

    def _hello(self, connection: Connection, hello: Hello) -> None:
        shell = self._shell
        if shell.leaving:
            # Closed before Ready: the client looks again, and waits for the next worker.
            shell.drop(connection)
            return
        connection.greeted = True
        connection.client = hello.client[:100]
        shell.keep_alive.joined(connection.number, hello.keep_alive)
        if not shell.inference.started:
            shell.inference.start()
        connection.outbox.put(
            Welcome(
                id=hello.id,
                version=PROTOCOL_VERSION,
                llmchat=llmchat.__version__,
                build=binding_build(),
                pid=os.getpid(),
                loading=shell.facts is None,
            )
        )
        if shell.facts is not None:
            connection.outbox.put(Ready(facts=shell.facts))
            return
        if shell.plan is not None:
            connection.outbox.put(shell.plan)
        connection.outbox.put(shell.last_loading)

    def _shutdown(self, connection: Connection, request: Shutdown) -> None:
        if request.if_idle and self._shell.busy:
            connection.outbox.put(refusal(request.id, "busy", "engine.busy_now"))
            return
        connection.outbox.put(Done(id=request.id))
        self._shell.leave(Leaving.CLEAN, f"asked by {connection.client or 'a client'}")

    def _work(self, connection: Connection, work: Work) -> None:
        shell = self._shell
        if shell.leaving:
            return  # the end of this process is the answer: the client asks the next worker
        if shell.facts is None:
            connection.outbox.put(refusal(work.id, "not_ready", "engine.not_ready"))
            return
        ends = work.n if isinstance(work, Generate) else 1
        emit = connection.begin(work.id, ends) if 1 <= ends <= MAX_CHOICES and work.id > 0 else None
        if emit is None:
            connection.outbox.put(refusal(work.id, "bad_request", "engine.bad_request"))
            return
        connection.cancellable(work.id, shell.backend.submit(work, emit))

    def _status(self, asker: Connection, request: int) -> WorkerStatus:
        shell = self._shell
        model, facts, status = shell.assignment.model, shell.facts, shell.backend.status()
        placement = facts.placement if facts else Placement()
        others = (c for c in shell.connections.values() if c is not asker and c.greeted)
        return WorkerStatus(
            id=request,
            pid=os.getpid(),
            llmchat=llmchat.__version__,
            model=model.name,
            path=model.path,
            identity=model.identity,
            size=sum(facts.memory.values()) if facts else 0,
            state="loading" if facts is None else "busy" if shell.busy else "idle",
            n_ctx=facts.n_ctx if facts else 0,
            n_ctx_used=status.n_ctx_used,
            pool=facts.pool if facts else 0,
            sequences=status.sequences,
            parked=status.parked,
            parked_bytes=status.parked_bytes,
            clients=tuple(connection.client for connection in others),
            idle_seconds=shell.idle_seconds(),
            keep_alive=shell.keep_alive.seconds,
            memory=placement.memory,
            n_gpu_layers=placement.n_gpu_layers,
            n_layers=placement.n_layers,
            processor=processor(placement),
            wants=shell.assignment.wants,
        )


def processor(placement: Placement) -> str:
    """Where the bytes lie, as `ollama ps` prints it: `100% GPU`, `40%/60% CPU/GPU`."""
    total = sum(placement.memory.values())
    on_cpu = sum(size for name, size in placement.memory.items() if name.upper().startswith("CPU"))
    if not total:
        on_cpu, total = placement.n_layers - placement.n_gpu_layers, placement.n_layers
    share = round(100 * on_cpu / total) if total else 100
    return {0: "100% GPU", 100: "100% CPU"}.get(share, f"{share}%/{100 - share}% CPU/GPU")


def _unreadable(body: bytes) -> Failed:
    """The refusal of a frame that is no request of ours.

    Raises:
        ProtocolError: it is not even a message with an id.
    """
    try:
        decode = msgspec.json.decode if body[:1] == b"{" else msgspec.msgpack.decode
        fields = decode(body, type=dict)
        number, kind = fields.get("id"), fields.get("type")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("engine.bad_frame", reason=str(error)) from error
    if not isinstance(number, int) or not isinstance(kind, str) or not 0 <= number < 2**63:
        raise ProtocolError("engine.bad_frame", reason="no id")
    return refusal(number, "unknown_request", "engine.unknown_request")
