"""Tool calls as models write them, read into a name and JSON arguments.

Owns one function over the body of a call section and the shapes it knows, told apart by what is
there and not by a model's name:

    {"name": ..., "arguments": {...}}   also a list, "parameters", "tool_name", {"function": ...}
    name {...}                          Mistral (name[ARGS]{...}), DeepSeek (a fence), Kimi
    <function=name><parameter=key>...   Qwen-Coder, Nemotron
    name <arg_key>...<arg_value>...     GLM
    <invoke name=...><parameter name=.. MiniMax, DeepSeek V3.2
    [name(key="value")]                 LFM2
    call:name{key:<|"|>value<|"|>}      Gemma 4

A body in no shape of these gives no call: its text is still with the reply. Refuses markers.
"""

import ast
import json
import re
from collections.abc import Iterator
from typing import Final

from llmchat.values import ToolCall

MAX_CALLS: Final = 64
_NAME: Final = r"[A-Za-z_][\w.\-]*"
_FUNCTION: Final = re.compile(rf"<function=({_NAME})>(.*?)(?:</function>|\Z)", re.S)
_PARAMETER: Final = re.compile(rf"<parameter=({_NAME})>\n?(.*?)\n?</parameter>", re.S)
_INVOKE: Final = re.compile(rf'invoke name="({_NAME})"[^>]*>(.*?)(?:</[^<>]*invoke>|\Z)', re.S)
_INVOKE_PARAMETER: Final = re.compile(
    rf'parameter name="({_NAME})"[^>]*>(.*?)</[^<>]*parameter>', re.S
)
_GLM: Final = re.compile(rf"\s*({_NAME})\s*(?=<arg_key>|\Z)")
_GLM_ARGUMENT: Final = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.S)
_NAMED: Final = re.compile(
    rf"(?:functions\.)?({_NAME})(?::\d+)?"
    r"(?:<[^<>]{1,64}>|\[ARGS\]|\[CALL_ID\]\w{1,64}|```json|```|\s){0,8}(?=\{)"
)
_GEMMA: Final = re.compile(rf"call:({_NAME})\s*{{")


def read_calls(body: str) -> tuple[ToolCall, ...]:
    """The calls in `body`, ids `call_0`, `call_1`, ... Never raises."""
    for shape in (_xml_functions, _xml_invokes, _glm, _gemma, _json_objects, _named, _pythonic):
        found = list(shape(body))
        if found:
            return tuple(
                ToolCall(id=f"call_{n}", name=name, arguments=arguments)
                for n, (name, arguments) in enumerate(found[:MAX_CALLS])
            )
    return ()


Found = Iterator[tuple[str, str]]


def _xml_functions(body: str) -> Found:
    for name, inner in _FUNCTION.findall(body):
        if inner.lstrip().startswith("{"):
            yield name, inner.strip()
        else:
            yield name, _arguments(_PARAMETER.findall(inner))


def _xml_invokes(body: str) -> Found:
    for name, inner in _INVOKE.findall(body):
        yield name, _arguments(_INVOKE_PARAMETER.findall(inner))


def _glm(body: str) -> Found:
    name = _GLM.match(body)
    if name and ("<arg_key>" in body or name.end() == len(body)):
        yield name[1], _arguments(_GLM_ARGUMENT.findall(body))


def _gemma(body: str) -> Found:
    for call in _GEMMA.finditer(body):
        quoted = body[call.end() - 1 :].split("}<", 1)[0]
        text = quoted if quoted.endswith("}") else quoted + "}"
        parts = text.split('<|"|>')
        # Even parts lie outside the quotes: there, bare keys get JSON's own.
        parts[::2] = [re.sub(rf"({_NAME})\s*:", r'"\1":', part) for part in parts[::2]]
        parts[1::2] = [json.dumps(part)[1:-1] for part in parts[1::2]]
        yield call[1], _as_object('"'.join(parts))


def _json_objects(body: str) -> Found:
    for value in _json_values(body):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _json_call(item)


def _json_call(item: dict[str, object]) -> Found:
    inner = item.get("function")
    call = inner if isinstance(inner, dict) else item
    name = call.get("name", call.get("tool_name", inner))
    if not isinstance(name, str):
        return
    for key in ("arguments", "parameters", "args", "input"):
        if key in call:
            arguments = call[key]
            yield name, arguments if isinstance(arguments, str) else _dump(arguments)
            return
    yield name, "{}"


def _named(body: str) -> Found:
    place = 0
    while match := _NAMED.search(body, place):
        try:
            value, place = json.JSONDecoder().raw_decode(body, match.end())
        except (ValueError, RecursionError):
            return
        yield match[1], _dump(value)


def _pythonic(body: str) -> Found:
    try:
        tree = ast.parse(body.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        for call in calls:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
                values = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                yield ast.unparse(call.func), _dump(values)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return


def _json_values(body: str) -> Iterator[object]:
    """JSON values at the start of `body` and behind one another; nothing if it starts otherwise."""
    decoder = json.JSONDecoder()
    place = 0
    while place < len(body):
        while place < len(body) and body[place] in " \t\r\n;,":
            place += 1
        if not body.startswith(("{", "["), place):
            return
        try:
            value, place = decoder.raw_decode(body, place)
        except (ValueError, RecursionError):
            return
        yield value


def _arguments(pairs: list[tuple[str, str]]) -> str:
    """Tagged arguments: JSON where a value is JSON but no string, else text."""
    return _dump({key.strip(): _value(text) for key, text in pairs})


def _value(text: str) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) else value


def _as_object(text: str) -> str:
    try:
        return _dump(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
