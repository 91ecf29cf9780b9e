"""Tool calls as models write them, read into a name and JSON arguments.

Owns one function over the body of a call section and the shapes it knows, told apart by what is
there and not by a model's name:

    {"name": ..., "arguments": {...}}   also a list, "parameters", "tool_name", {"function": ...}
    [{"name": {...}}]                   Apertus
    name {...}                          Mistral (name[ARGS]{...}), DeepSeek (a fence), Kimi
    <function=name><parameter=key>...   Qwen-Coder, Nemotron
    name <arg_key>...<arg_value>...     GLM, Hunyuan
    <invoke name=...><parameter name=.. MiniMax, DeepSeek V3.2, MiniCPM (<function name=...><param)
    call tool="name" ... argument key=  Kimi K3
    [name(key="value")]                 LFM2
    call:name{key:<|"|>value<|"|>}      Gemma 4

A body in no shape of these gives no call: its text is still with the reply. Refuses markers.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from llmchat.values import ToolCall

MAX_CALLS: Final = 64
_NAME: Final = r"[A-Za-z_][\w.\-]*"
_FUNCTION: Final = re.compile(rf"<function=({_NAME})>(.*?)(?:</function>|\Z)", re.S)
_PARAMETER: Final = re.compile(rf"<parameter=({_NAME})>\n?(.*?)\n?</parameter>", re.S)
_INVOKE: Final = re.compile(
    rf'(?:invoke|function) name="({_NAME})"[^>]*>(.*?)(?:</[^<>]*(?:invoke|function)>|\Z)', re.S
)
_INVOKE_PARAMETER: Final = re.compile(
    rf'param(?:eter)? name="({_NAME})"([^>]*)>(.*?)</[^<>]*param(?:eter)?>', re.S
)
_TAGGED: Final = re.compile(rf"<({_NAME})>(.*?)</\1>", re.S)
_KIMI: Final = re.compile(
    rf'call tool="({_NAME})"[^<]*<\|sep\|>(.*?)(?:<\|close\|>call<\|sep\|>|\Z)', re.S
)
_KIMI_ARGUMENT: Final = re.compile(
    rf'argument key="({_NAME})"([^<]*)<\|sep\|>(.*?)<\|close\|>argument', re.S
)
_GLM_TAIL: Final = r"(?::\w+)?>"
"""Hunyuan's tags carry a name of its own: `<arg_key:opensource>`."""
_GLM: Final = re.compile(
    rf"(?:^|<tool_call{_GLM_TAIL})\s*({_NAME})\s*(?:<tool_sep{_GLM_TAIL})?\s*"
    rf"((?:<arg_key{_GLM_TAIL}.*?</arg_value{_GLM_TAIL}\s*)*)(?=</tool_call|\Z)", re.S
)  # fmt: skip
_GLM_ARGUMENT: Final = re.compile(
    rf"<arg_key{_GLM_TAIL}(.*?)</arg_key{_GLM_TAIL}\s*"
    rf"<arg_value{_GLM_TAIL}(.*?)</arg_value{_GLM_TAIL}", re.S
)  # fmt: skip
_IS_TEXT: Final = re.compile(r'string="true"|type="string"')
_CDATA: Final = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.S)
_NAMESPACE: Final = "]<]minimax[>["
"""MiniMax M3 puts this in front of every tag."""
_NAMED: Final = re.compile(
    rf"(?:functions\.)?({_NAME})(?::\d+)?"
    r"(?:<[^<>]{1,64}>|\[ARGS\]|\[CALL_ID\]\w{1,64}|```json|```|\s){0,8}(?=\{)"
)
_GEMMA: Final = re.compile(rf"call:({_NAME})\s*{{")


Texts = Mapping[str, frozenset[str]]
"""For each tool, the parameters whose values are strings, whatever they look like."""


def string_parameters(tools: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """What OpenAI-shaped definitions say about strings; whatever is malformed is left out."""
    found: dict[str, frozenset[str]] = {}
    for tool in tools:
        function = tool.get("function", tool)
        try:
            properties = function["parameters"]["properties"]
            found[str(function["name"])] = frozenset(
                key for key, schema in properties.items() if schema.get("type") == "string"
            )
        except (AttributeError, KeyError, TypeError):
            continue
    return found


def read_calls(
    body: str, texts: Texts | None = None, *, bare: bool = False
) -> tuple[ToolCall, ...]:
    """The calls in `body`, ids `call_0`, `call_1`, ... Never raises.

    Args:
        body: what stood between the markers of a call.
        texts: which tagged values are strings; without it, what reads as JSON is no string.
        bare: no marker said that this is a call: it must name its tool and its arguments.
    """
    tagged = texts or {}
    body = body.replace(_NAMESPACE, "")
    written = partial(_json_objects, bare=bare)
    shapes = (
        partial(_xml_functions, texts=tagged),
        partial(_xml_invokes, texts=tagged),
        partial(_kimi, texts=tagged),
        partial(_glm, texts=tagged),
        _gemma,
        written,
        _named,
        _pythonic,
    )
    for shape in (written,) if bare else shapes:
        found = list(shape(body))
        if found:
            return tuple(
                ToolCall(id=f"call_{n}", name=name, arguments=arguments)
                for n, (name, arguments) in enumerate(found[:MAX_CALLS])
            )
    return ()


Found = Iterator[tuple[str, str]]


def _xml_functions(body: str, texts: Texts) -> Found:
    for name, inner in _FUNCTION.findall(body):
        if inner.lstrip().startswith("{"):
            yield name, inner.strip()
        else:
            yield name, _arguments(_PARAMETER.findall(inner), texts.get(name))


def _xml_invokes(body: str, texts: Texts) -> Found:
    for name, inner in _INVOKE.findall(body):
        given = _INVOKE_PARAMETER.findall(inner)
        if given:
            yield name, _typed(given, texts.get(name))
        else:
            yield name, _arguments(_TAGGED.findall(inner), texts.get(name))


def _kimi(body: str, texts: Texts) -> Found:
    for name, inner in _KIMI.findall(body):
        yield name, _typed(_KIMI_ARGUMENT.findall(inner), texts.get(name))


def _glm(body: str, texts: Texts) -> Found:
    for name, inner in _GLM.findall(body):
        yield name, _arguments(_GLM_ARGUMENT.findall(inner), texts.get(name))


def _gemma(body: str) -> Found:
    place = 0
    while call := _GEMMA.search(body, place):
        parts = body[call.end() - 1 :].split('<|"|>')
        depth = 0
        written: list[str] = []
        for number, part in enumerate(parts):
            if number % 2:  # a quoted text; between two of them bare keys get JSON's own quotes
                written.append(json.dumps(part, ensure_ascii=False))
                continue
            length, depth = _braces(part, depth)
            written.append(re.sub(rf"({_NAME})\s*:", r'"\1":', part[:length]))
            if not depth:
                break
        yield call[1], _as_object("".join(written))
        place = call.end()


def _braces(text: str, depth: int) -> tuple[int, int]:
    """How much of `text` lies before the brace that closes all, and what is open then."""
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth <= 0:
            return place + 1, 0
    return len(text), depth


def _json_objects(body: str, *, bare: bool) -> Found:
    for value in _json_values(body):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _json_call(item, bare=bare)


def _json_call(item: dict[str, object], *, bare: bool) -> Found:
    inner = item.get("function")
    call = inner if isinstance(inner, dict) else item
    name = call.get("name", call.get("tool_name", inner))
    if not isinstance(name, str):
        [(key, value)] = item.items() if len(item) == 1 else [("", None)]
        if isinstance(value, dict) and not bare:
            yield key, _dump(value)
        return
    for key in ("arguments", "parameters", "args", "input"):
        if key in call:
            arguments = call[key]
            yield name, arguments if isinstance(arguments, str) else _dump(arguments)
            return
    if not bare:
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


def _arguments(pairs: Sequence[tuple[str, str]], texts: frozenset[str] | None) -> str:
    """Tagged arguments: what the schema calls a string is text, the rest JSON where it is JSON."""
    strings = texts or frozenset()
    return _dump({key.strip(): _value(text, key.strip() in strings) for key, text in pairs})


def _typed(given: Sequence[tuple[str, str, str]], texts: frozenset[str] | None) -> str:
    """The same for tags that say themselves whether they hold a string."""
    strings = texts or frozenset()
    return _dump({
        key: _value(text, key in strings or bool(_IS_TEXT.search(attributes)))
        for key, attributes, text in given
    })  # fmt: skip


def _value(text: str, is_text: bool) -> object:
    quoted = _CDATA.fullmatch(text)
    if quoted or is_text:
        return quoted[1] if quoted else text
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
