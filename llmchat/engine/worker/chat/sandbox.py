"""Running a chat template that came with a model file: foreign code in a cage, in this process.

Owns Jinja's sandbox as chat templates need it (the extras that Hugging Face's `apply_chat_template`
documents: loopcontrols, `generation`, `tojson`, `raise_exception`, `strftime_now`) and its bounds:
a deadline, a budget of characters, and a size for what is compared or printed. Jinja's own sandbox
stops a template from reaching Python, not from counting to ten billion or doubling a string forty
times, and nothing can interrupt a thread from outside, so every step that can repeat or grow is
made to ask first: loops and macros by a rewritten syntax tree (`guards.py`), operators, calls and
filters by hooks. Refuses to know what a message is (`template.py`).
"""

import datetime
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, Final, NoReturn

from jinja2 import Environment, Template, TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from llmchat.engine.worker.chat.guards import Generation, Guards

MAX_SOURCE: Final = 256 * 1024
"""Characters of a template; the largest of llama.cpp's collection has 17,000."""
MAX_OUTPUT: Final = 8 * 1024 * 1024
"""Characters of a rendered prompt: about two million tokens."""
MAX_BUDGET: Final = 128 * 1024 * 1024
"""Characters that all strings and lists made on the way may have together."""
MAX_ELEMENTS: Final = 200_000
"""Elements, nested ones each time they occur, of a value that is compared, printed or passed on."""
MAX_NUMBER_BITS: Final = 4096
MAX_PADDING: Final = 1000
DEADLINE: Final = 2.0
"""Seconds for one rendering."""

# What chat templates use, and nothing else: Jinja's other filters pad, wrap or match expressions.
_FILTERS: Final = frozenset({
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first",
    "float", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
})  # fmt: skip
_PADDING_METHODS: Final = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_SPLITTING_METHODS: Final = frozenset({"split", "rsplit", "splitlines"})
_REFUSED_METHODS: Final = frozenset({"translate", "maketrans"})
_WIDE_FORMAT: Final = re.compile(r"\d{4}|\{[^{}]*:[^{}]*\{|%[^a-zA-Z%]*\*")
_PADDING_FILTERS: Final = frozenset({"indent", "tojson", "round"})
_JINJAS_OWN: Final = (Context, EvalContext, Environment)
_BYTES_PER_ELEMENT: Final = 16


class OutOfBounds(TemplateError):
    """The template passed one of the bounds; the message names it."""


class Refused(TemplateError):
    """The template itself declined the conversation, through `raise_exception`."""


def _raise_exception(message: object) -> NoReturn:
    raise Refused(str(message)[:1000])


def _strftime_now(pattern: object) -> str:
    text = str(pattern)
    # glibc pads: `%99999999d` is a hundred megabytes.
    if len(text) > 200 or _WIDE_FORMAT.search(text):
        raise OutOfBounds("the date format is too wide")
    return datetime.datetime.now().strftime(text)


def _tojson(
    value: Any,  # noqa: ANN401 - whatever the template holds
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's templates expect it: no HTML escapes, and Unicode as it is.

    `ensure_ascii` is accepted and ignored: escaped, the marks around contents could not be found
    again, and the model reads the characters themselves.
    """
    return json.dumps(
        value,
        ensure_ascii=False,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: object) -> list[object]:
    """What `map` and `select` give, which a template takes for a list."""
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _size(value: object) -> int:
    """What a fresh value takes of the budget; containers by their own length only."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple | dict | set):
        return len(value) * _BYTES_PER_ELEMENT
    return 0


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one template. One thread at a time; `render` starts a fresh budget.

    `mutable=True` lets the template change lists and dicts (Kimi's do), which is safe because
    `render` is given values that were made for it alone.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, mutable: bool = False, deadline: float = DEADLINE) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
        )
        self._mutable = mutable
        self._seconds = deadline
        self._until = float("inf")
        self._left = MAX_BUDGET
        self.finalize = self.bounded
        self.concat = self._concat  # type: ignore[method-assign]
        known: dict[str, Callable[..., Any]] = {name: self.filters[name] for name in _FILTERS}
        known["tojson"] = _tojson
        self.filters.clear()
        self.filters.update({name: self._guarded(name, run) for name, run in known.items()})
        checks: list[tuple[str, Any]] = list(self.tests.items())
        self.tests.update({name: self._guarded("test", run) for name, run in checks})
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name)
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)

    def load(self, source: str) -> Template:
        """The compiled template.

        Raises:
            TemplateError: it is no template of ours: syntax, an unknown tag or filter, its size.
        """
        if len(source) > MAX_SOURCE:
            raise OutOfBounds(f"its template has {len(source)} characters")
        self._start()
        try:
            tree = self.parse(source)
            tree = Guards().visit(tree)
            tree.set_environment(self)
            return Template.from_code(self, self.compile(tree), self.make_globals(None))
        except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
            # Nested too deeply for Python's own compiler.
            raise TemplateSyntaxError(str(error), 0) from error

    def render(self, template: Template, values: Mapping[str, object]) -> str:
        """The text.

        Raises:
            TemplateError: the template refused, failed, or passed a bound.
        """
        self._start()
        pieces: list[str] = []
        length = 0
        try:
            for piece in template.root_render_func(template.new_context(dict(values))):
                length += len(piece)
                if length > MAX_OUTPUT:
                    raise OutOfBounds(f"the prompt passed {MAX_OUTPUT} characters")
                self.tick()
                pieces.append(piece)
        except TemplateError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise TemplateError(f"{type(error).__name__}: {error}"[:1000]) from error
        return "".join(pieces)

    # What the guards and hooks ask.

    def tick(self) -> bool:
        """True; or the deadline has passed."""
        if time.monotonic() > self._until:
            raise OutOfBounds(f"it did not finish within {self._seconds:g} seconds")
        return True

    def spend(self, characters: int) -> None:
        """Take from the budget before the memory is."""
        self._left -= characters
        if self._left < 0:
            raise OutOfBounds("it builds more text than a prompt can need")

    def bounded(self, value: Any) -> Any:  # noqa: ANN401 - any value of a template
        """`value`, if walking all of it is cheap."""
        if isinstance(value, list | tuple | dict | set):
            self.measure(value)
        return value

    def joined(self, *values: object) -> str:
        """The `~` operator."""
        return self._concat([str(self.bounded(value)) for value in values])

    def measure(self, value: object) -> int:
        """Characters and elements in `value`, nested ones each time they occur."""
        elements = characters = 0
        stack: list[object] = [value]
        while stack:
            item = stack.pop()
            elements += 1
            if isinstance(item, str):
                characters += len(item)
            elif isinstance(item, dict):
                stack.extend(item.keys())
                stack.extend(item.values())
            elif isinstance(item, list | tuple | set):
                stack.extend(item)
            if elements + len(stack) > MAX_ELEMENTS or characters > MAX_OUTPUT:
                raise OutOfBounds(f"it builds a value of more than {MAX_ELEMENTS} elements")
        self.tick()
        return elements + characters

    # Jinja's hooks.

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """As the base says; a mutable sandbox also lets lists and dicts be changed."""
        if self._mutable:
            return SandboxedEnvironment.is_safe_attribute(self, obj, attr, value)
        return super().is_safe_attribute(obj, attr, value)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - Jinja's signature
        """`obj[argument]`; a tuple is measured first, because looking it up hashes all of it."""
        return super().getitem(obj, self.bounded(argument))

    def call(
        __self,
        __context: Context,
        __obj: Any,  # noqa: ANN401
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Every call in a template comes through here."""
        __self.tick()
        owner = getattr(__obj, "__self__", None)
        if owner is __self:
            # One of our hooks; Jinja adds keywords of its own inside loops.
            return __obj(*args)
        if isinstance(owner, str | bytes):
            args = __self._check_method(owner, __obj.__name__, args)
        elif isinstance(owner, list | dict | tuple | set):
            __self.measure(owner)
        for value in (*args, *kwargs.values()):
            __self.bounded(value)
        result = super().call(__context, __obj, *args, **kwargs)
        __self.spend(_size(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """The operators whose result can be much larger than what goes in."""
        if operator == "%" and isinstance(left, str):
            self._check_format(left)
            self.bounded(right)
        elif operator == "+":
            self.spend(_size(left) + _size(right))
        elif isinstance(left, int) and isinstance(right, int):
            self._check_numbers(operator, left, right)
        elif operator == "*":
            times = right if isinstance(right, int) else left if isinstance(left, int) else 1
            self.spend(max(_size(left), _size(right)) * max(0, times))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """`str.format`, sandboxed by Jinja, with widths bounded here."""
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        owner: str = value.__self__

        @wraps(sandboxed)
        def run(*args: object, **kwargs: object) -> str:
            self._check_format(owner)
            self.measure([*args, *kwargs.values()])
            return sandboxed(*args, **kwargs)

        return run

    # Checks.

    def _start(self) -> None:
        self._until = time.monotonic() + self._seconds
        self._left = MAX_BUDGET

    def _concat(self, pieces: Iterable[str]) -> str:
        parts = list(pieces)
        self.spend(sum(map(len, parts)))
        return "".join(parts)

    @staticmethod
    def _check_numbers(operator: str, left: int, right: int) -> None:
        bits = left.bit_length()
        if operator == "**" and bits * max(0, right) > MAX_NUMBER_BITS:
            raise OutOfBounds("it computes with very large numbers")
        if operator == "*" and bits + right.bit_length() > MAX_NUMBER_BITS:
            raise OutOfBounds("it computes with very large numbers")

    @staticmethod
    def _check_format(pattern: str) -> None:
        if _WIDE_FORMAT.search(pattern):
            raise OutOfBounds("it pads text to an extreme width")

    def _check_method(
        self, owner: str | bytes, name: str, args: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Take what a string's method will make; returns the arguments, generators as lists."""
        if name in _REFUSED_METHODS:
            raise OutOfBounds(f"it calls str.{name}")
        if name in _PADDING_METHODS and any(
            isinstance(arg, int) and arg > MAX_PADDING for arg in args
        ):
            raise OutOfBounds("it pads text to an extreme width")
        if name in _SPLITTING_METHODS:
            self.spend(len(owner) * _BYTES_PER_ELEMENT)
        if name == "join" and args:
            args = (self._join(owner, args[0]), *args[1:])
        if name == "replace" and len(args) > 1:
            self._replace(owner, args[0], args[1])
        return args

    def _join(self, separator: object, items: Iterable[object]) -> list[object]:
        parts = list(items)
        self.spend(self.measure(parts) + _size(separator) * len(parts))
        return parts

    def _replace(self, text: Any, old: Any, new: Any) -> None:  # noqa: ANN401
        if isinstance(text, str) and isinstance(old, str) and isinstance(new, str):
            self.spend(len(text) + text.count(old) * len(new))

    def _guarded(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or test that asks before it works."""

        @wraps(run)
        def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the filter
            self.tick()
            # Jinja passes its own context or environment to some filters first.
            first = 1 if args and isinstance(args[0], _JINJAS_OWN) else 0
            own = list(args[first:])
            for value in (*own, *kwargs.values()):
                self.bounded(value)
            self._check_filter(name, own, kwargs)
            result = run(*args[:first], *own, **kwargs)
            self.spend(_size(result))
            return result

        return guarded

    def _check_filter(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Take what a filter will make; a generator in `args` may become a list."""
        if name in _PADDING_FILTERS and any(
            isinstance(value, int) and abs(value) > MAX_PADDING
            for value in (*args[1:], *kwargs.values())
        ):
            raise OutOfBounds("it pads text to an extreme width")
        if name == "join" and args and len(args) < 3 and "attribute" not in kwargs:
            separator = args[1] if len(args) > 1 else kwargs.get("d", "")
            args[0] = self._join(separator, args[0])
        elif name == "replace" and len(args) > 2:
            self._replace(*args[:3])
        elif name == "indent" and args:
            self.spend(str(args[0]).count("\n") * MAX_PADDING)
        elif name == "format" and args:
            self._check_format(str(args[0]))
