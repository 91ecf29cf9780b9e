"""One frame's encoding: length, then JSON for the frozen types, MessagePack for the rest."""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from llmchat.engine.protocol.events import Done, Event, Failed, Welcome, WorkerStatus
from llmchat.engine.protocol.requests import Hello, Request, Shutdown, StatusRequest
from llmchat.errors import EngineError

MAX_FRAME: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
_JSON_TYPES: Final = (Hello, StatusRequest, Shutdown, Welcome, WorkerStatus, Done, Failed)
"""Frozen. Done and Failed answer Shutdown, among others: one form for all is simpler to keep."""


class ProtocolError(EngineError):
    """The other side sent bytes that are no frame of ours; the connection is of no more use."""


_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_requests_json = msgspec.json.Decoder(Hello | StatusRequest | Shutdown)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_events_json = msgspec.json.Decoder(Welcome | WorkerStatus | Done | Failed)


def encode(message: Request | Event) -> bytes:
    """One frame, length included.

    Raises:
        ProtocolError: it would pass MAX_FRAME.
    """
    body = _json.encode(message) if isinstance(message, _JSON_TYPES) else _msgpack.encode(message)
    if len(body) > MAX_FRAME:
        raise ProtocolError("engine.frame_too_large", size=len(body))
    return _LENGTH.pack(len(body)) + body


def take_frames(data: bytearray) -> Iterator[bytes]:
    """The bodies of the whole frames at the start of `data`, each taken out of it.

    Raises:
        ProtocolError: a frame longer than MAX_FRAME, or empty.
    """
    while len(data) >= _LENGTH.size:
        length: int = _LENGTH.unpack_from(data)[0]
        if not 0 < length <= MAX_FRAME:
            raise ProtocolError("engine.frame_too_large", size=length)
        end = _LENGTH.size + length
        if len(data) < end:
            return
        body = bytes(data[_LENGTH.size : end])
        del data[:end]
        yield body


def decode_request(body: bytes) -> Request:
    """A client's frame without its length.

    Raises:
        ProtocolError: it is no request.
    """
    try:
        return _requests_json.decode(body) if body[:1] == b"{" else _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("engine.bad_frame", reason=str(error)) from error


def decode_event(body: bytes) -> Event:
    """A worker's frame without its length.

    Raises:
        ProtocolError: it is no event.
    """
    try:
        return _events_json.decode(body) if body[:1] == b"{" else _events.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("engine.bad_frame", reason=str(error)) from error
