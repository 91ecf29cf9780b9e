"""`llmchat run` with a schema, a regex or a grammar: read once, obeyed, kept with the reply."""

import json
from pathlib import Path

import jsonschema
import pytest

from llmchat.cli.constraining import constraint_of
from llmchat.errors import NotFound, UsageError
from tests.cli.program import run

SCHEMA = (
    '{"type": "object", "properties": {"city": {"type": "string", "maxLength": 9},'
    ' "capital": {"type": "boolean"}}, "required": ["city", "capital"],'
    ' "additionalProperties": false}'
)


def test_a_schema_is_a_file_or_itself(tmp_path: Path):
    file = tmp_path / "schema.json"
    file.write_text(SCHEMA)
    given = [{"json_schema": SCHEMA}, {"json_schema": str(file)}, {"json_schema_file": str(file)}]
    first, *others = map(constraint_of, given)
    assert first is not None
    assert (first.kind, first.text) == ("json_schema", SCHEMA)
    assert others == [first, first]


def test_every_flag_has_its_kind(tmp_path: Path):
    file = tmp_path / "grammar"
    file.write_text("words")
    kinds = {"regex": "regex", "grammar": "gbnf", "grammar_file": "gbnf", "lark": "lark"}
    for name, kind in kinds.items():
        value = "words" if name in ("regex", "grammar") else str(file)
        found = constraint_of({name: value})
        assert found is not None
        assert (found.kind, found.text) == (kind, "words")
    assert constraint_of({"regex": None}) is None


def test_what_cannot_be_meant_is_said():
    with pytest.raises(UsageError, match="--regex, --grammar are more"):
        constraint_of({"regex": "a", "grammar": "b"})
    with pytest.raises(NotFound, match="nowhere"):
        constraint_of({"json_schema": "/nowhere.json"})


def test_it_needs_a_prompt():
    done = run("run", "--regex", "a")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.model
def test_the_answer_obeys_and_is_replayed_obeying(starter: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLMCHAT_CHAT_KEEP_ALIVE", "20")
    done = run("run", str(starter), "-j", SCHEMA, "--json", "--temp", "0", "Where?")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    jsonschema.validate(json.loads(answer["text"]), json.loads(SCHEMA))
    shown = json.loads(run("chats", "show", answer["conversation"], "--json").stdout)
    made = shown["messages"][-1]["generation"]["settings"]
    assert made["constraint.text"]["value"] == SCHEMA
    again = run("chats", "replay", answer["conversation"])
    assert again.returncode == 0, again.stdout + again.stderr
    refused = run("run", str(starter), "--regex", "(", "Where?")
    assert refused.returncode == 1
    assert "unclosed group" in refused.stderr
    run("stop", "--all")
