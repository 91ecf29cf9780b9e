"""Adapters as settings name them: files, scales, and what a model is loaded with."""

from pathlib import Path

import pytest

from llmchat.core.adapting import of_reply, scaled, wants_of
from llmchat.engine.client.wanting import satisfies
from llmchat.engine.protocol import Facts
from llmchat.values import ChatSettings, Wants


@pytest.mark.parametrize(
    ("entry", "name", "scale"),
    [
        ("/a/style.gguf", "/a/style.gguf", 1.0),
        ("/a/style.gguf:0.5", "/a/style.gguf", 0.5),
        ("/a/style.gguf:-2", "/a/style.gguf", -2.0),
        ("/a/8:30.gguf", "/a/8:30.gguf", 1.0),
        ("/a/8:30.gguf:0.25", "/a/8:30.gguf", 0.25),
    ],
)
def test_a_file_with_its_scale(entry, name, scale):
    (found,) = scaled((entry,))
    assert (found.path, found.scale) == (name, scale)


def test_paths_are_made_absolute_where_they_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    near, far = scaled(("near.gguf", "~/far.gguf:2"))
    assert near.path == str(tmp_path / "near.gguf")
    assert far.path == str(tmp_path / "home" / "far.gguf")


def test_a_model_is_loaded_with_every_file_that_replies_use():
    values = ChatSettings(
        wants=Wants(n_ctx=512, lora=("/kept.gguf",)),
        lora=("/a.gguf:0.5", "/kept.gguf"),
        control_vectors=("/v.gguf:-1",),
    )
    wants = wants_of(values)
    assert wants.lora == ("/kept.gguf", "/a.gguf")
    assert wants.control_vectors == ("/v.gguf",)
    assert wants.n_ctx == 512
    reply = of_reply(values)
    assert [each.scale for each in reply["lora"]] == [0.5, 1.0]
    assert wants_of(ChatSettings()) == Wants()
    assert of_reply(ChatSettings())["speculation"] == "off"


def test_a_worker_that_has_loaded_more_adapters_will_do_and_scales_are_no_matter():
    both = Wants(lora=("/a.gguf", "/b.gguf"))
    assert satisfies(both, Facts(), Wants(lora=("/b.gguf",)))
    assert satisfies(both, Facts(), Wants())
    assert not satisfies(Wants(), Facts(), both)
    assert not satisfies(Wants(lora=("/a.gguf",)), Facts(), both)
    assert not satisfies(both, Facts(), Wants(control_vectors=("/v.gguf",)))
