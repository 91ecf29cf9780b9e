"""`llmchat bench [MODEL]`: how fast a model is here, as llama-bench prints it.

Rows appear as they are measured; progress is on stderr. Ctrl+C stops what runs, keeps the rows that
are done, and ends with 130.
"""

import asyncio
import csv
import io
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from llmchat.cli.amounts import size
from llmchat.cli.asking import loaded
from llmchat.cli.choosing import find_or_fetch, pick
from llmchat.cli.options import load_options, settings_of
from llmchat.cli.output import answer_json, cells, note, table_line, write_answer
from llmchat.cli.parameters import Counts, Kind, ModelName, Whole
from llmchat.cli.parts import open_models, open_runtime
from llmchat.cli.progress import Bar
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.values import ChatSettings, ModelFile

if TYPE_CHECKING:
    from llmchat.core.benchmarking import Measured, Plan
    from llmchat.engine.protocol import Facts, WorkerStatus
    from llmchat.engine.session import Session

COLUMNS = ("MODEL", "SIZE", "BACKEND", "THREADS", "TEST", "T/S")


def _amount(
    *names: str, kind: Kind, default: int | str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    # How much to measure; the last of its names is the parameter's and its sentence's.
    words = say(f"cli.opt_bench_{names[-1]}")
    return click.option(*names, type=kind, default=default, show_default=True, help=words)


@click.command(help=say("cli.about_bench"))
@click.argument("model", type=ModelName(), metavar="[MODEL]", required=False)
@_amount("-p", "--n-prompt", "prompt", kind=Whole(0, 1_000_000), default=512)
@_amount("-n", "--n-gen", "generate", kind=Whole(0, 1_000_000), default=128)
@_amount("-r", "--repetitions", "repetitions", kind=Whole(1, 1000), default=3)
@_amount("--sequences", "sequences", kind=Counts(64), default="1,2,4,8")
@click.option("--no-prefix", is_flag=True, help=say("cli.opt_bench_no_prefix"))
@click.option("--json", "as_json", is_flag=True, help=say("cli.opt_json"))
@click.option("--csv", "as_csv", is_flag=True, help=say("cli.opt_bench_csv"))
@load_options
def bench(
    model: str | None,
    prompt: int,
    generate: int,
    repetitions: int,
    sequences: tuple[int, ...],
    no_prefix: bool,
    as_json: bool,
    as_csv: bool,
    **given: Any,  # noqa: ANN401 - a dozen flags by name
) -> None:  # fmt: skip
    """Through the same worker and socket as a chat."""
    from llmchat.core.benchmarking import Plan

    plan = Plan(
        prompt=prompt,
        generate=generate,
        repetitions=repetitions,
        sequences=sequences,
        prefix=not no_prefix,
    )
    if as_json and as_csv:
        raise click.UsageError(say("cli.bench_one_form"))
    if prompt == 0 and generate < 2:
        raise click.UsageError(say("cli.bench_nothing"))
    output = _Json() if as_json else _Csv() if as_csv else _Table()
    asyncio.run(_bench(_chosen(model), plan, settings_of(given), output))


def _chosen(ref: str | None) -> ModelFile:
    if ref:
        return find_or_fetch(ref)
    return open_models().default() or pick()


async def _bench(
    model: ModelFile, plan: "Plan", flags: ChatSettings, output: "_Table | _Csv | _Json"
) -> None:
    from llmchat.core import benchmarking

    async with open_runtime("bench", flags=flags, save=False) as runtime:
        settings = runtime.settings.layers(model=model.name).values
        wants = benchmarking.wants(plan, settings.wants)
        session = await loaded(runtime, model, wants)
        try:
            if settings.keep_alive is not None:
                await session.keep_alive(settings.keep_alive)
            await _measure(session, plan, output)
        finally:
            await session.aclose()


async def _measure(session: "Session", plan: "Plan", output: "_Table | _Csv | _Json") -> None:
    from llmchat.core import benchmarking

    about = _About(session.facts, await session.status())
    todo = benchmarking.rows(plan, session.facts.n_seq_max)
    if plan.generate > 1 and max(plan.sequences) > session.facts.n_seq_max:
        note(say("cli.bench_fewer", most=session.facts.n_seq_max))
    output.begin(about, [row.name for row in todo])
    try:
        with Bar("") as bar:
            async with aclosing(benchmarking.measure(session, plan)) as events:
                async for event in events:
                    if isinstance(event, benchmarking.Step):
                        bar.share(say("cli.benching"), event.share, event.row.name)
                    else:
                        bar.__exit__()
                        output.row(event)
    finally:
        output.end()


class _About:
    """What every row says of the model and the machine."""

    def __init__(self, facts: "Facts", status: "WorkerStatus") -> None:
        self.fields: dict[str, object] = {
            "model": facts.model,
            "description": facts.description,
            "identity": facts.identity,
            "size": facts.memory.get("model", status.size),
            "backend": status.processor,
            "n_threads": facts.n_threads,
            "n_gpu_layers": status.n_gpu_layers,
            "n_ctx": facts.n_ctx,
            "build": facts.build,
        }
        weights = facts.memory.get("model", status.size)
        self.cells = (facts.model, size(weights), status.processor, str(facts.n_threads))

    def with_row(self, row: "Measured") -> dict[str, object]:
        """A row for programs."""
        import msgspec

        return self.fields | msgspec.structs.asdict(row)


class _Table:
    """Lines that appear as they are measured: only the last column's width is unknown."""

    def begin(self, about: _About, names: list[str]) -> None:
        """The heading."""
        self._cells = about.cells
        lines = [COLUMNS[:-1], *((*about.cells, name) for name in names)]
        self._widths = [max(cells(clean_line(line[i])) for line in lines) for i in range(5)]
        table_line(COLUMNS, self._widths)

    def row(self, row: "Measured") -> None:
        """A line."""
        speed = f"{row.mean:.2f} ± {row.deviation:.2f}"
        table_line((*self._cells, row.test, speed), self._widths)

    def end(self) -> None:
        """Nothing follows."""


class _Csv:
    """Comma-separated, a heading first."""

    def begin(self, about: _About, names: list[str]) -> None:
        """Only the first row knows the heading."""
        self._about, self._begun = about, False

    def row(self, row: "Measured") -> None:
        """A line, quoted where it must be."""
        fields = self._about.with_row(row)
        fields["speeds"] = " ".join(f"{speed:.3f}" for speed in row.speeds)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._begun:
            writer.writerow(fields)
            self._begun = True
        writer.writerow([clean_line(str(value)) for value in fields.values()])
        write_answer(text.getvalue())

    def end(self) -> None:
        """Nothing follows."""


class _Json:
    """One array of objects, also when it was cut short."""

    def begin(self, about: _About, names: list[str]) -> None:
        """Nothing is written before the end."""
        self._about = about
        self._rows: list[dict[str, object]] = []

    def row(self, row: "Measured") -> None:
        """Keep it."""
        self._rows.append(self._about.with_row(row))

    def end(self) -> None:
        """The array."""
        answer_json(self._rows)
