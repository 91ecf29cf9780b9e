"""Personas: files of settings under a name, and the layer they are."""

import os

import pytest

from llmchat.config.profiles import personas
from llmchat.core.settings import SettingsService
from llmchat.errors import NotFound
from llmchat.values import ChatSettings, Conversation, Sampling

PIRATE = """
about = "Answers like a pirate"
system = "You are a pirate."
thinking = false
sampling.temperature = 1.1
sampling.top_k = 7
load.n_ctx = 512
"""


@pytest.fixture
def folder(places):
    places.personas.mkdir(parents=True)
    return places.personas


def conversation(**settings) -> Conversation:
    return Conversation(id="1", title="", created=0, updated=0, settings=ChatSettings(**settings))


def test_a_persona_lies_below_the_conversation_and_above_the_model(places, folder):
    (folder / "pirate.toml").write_text(PIRATE)
    places.config_file.write_text(
        '[models.m]\nsystem = "model"\nmax_tokens = 9\nsampling.top_k = 3\n'
        '[chat]\nmodel = "m"\nsystem = "file"\n'
    )
    service = SettingsService(places, {"LLMCHAT_SAMPLING_TOP_K": "2"})
    chat = conversation(persona="pirate", sampling=Sampling(temperature=0.1))
    found = service.layers(chat)
    assert found.values.system == "You are a pirate."
    assert found.values.sampling == Sampling(temperature=0.1, top_k=7)
    assert (found.values.wants.n_ctx, found.values.thinking) == (512, False)
    assert {
        key: found.sources[key] for key in ("system", "sampling.temperature", "max_tokens")
    } == {
        "system": "persona",
        "sampling.temperature": "conversation",
        "max_tokens": "per-model",
    }
    assert found.sources["persona"] == "conversation"
    assert service.layers(conversation()).values.system == "model"
    once = ChatSettings(persona="pirate", system="once")
    assert service.layers(conversation(), once).values.system == "once"
    assert service.layers(conversation(), once).values.sampling.top_k == 7


def test_a_persona_may_be_the_usual_one(places, folder):
    (folder / "pirate.toml").write_text(PIRATE)
    places.config_file.write_text('[chat]\npersona = "pirate"\n')
    service = SettingsService(places, {})
    assert service.layers().sources["system"] == "persona"
    assert service.layers(conversation(persona="pirate")).sources["persona"] == "conversation"


def test_a_mistake_costs_only_its_key_and_is_told(places, folder):
    (folder / "odd.toml").write_text('system = "yes"\nsytem = "x"\nsampling.top_p = 7\n')
    service = SettingsService(places, {})
    told: list[str] = []
    service.on_problem = told.append
    assert service.layers(conversation(persona="odd")).values.system == "yes"
    assert sorted(sentence.rpartition("odd.toml:")[2] for sentence in told) == [
        "2: There is no setting sytem. Did you mean system?",
        "3: sampling.top_p cannot be 7: 0 to 1.",
    ]


@pytest.mark.parametrize("text", [b"= nonsense", b"\xff\xfe", b"a = " + b"[" * 9000])
def test_a_file_that_is_no_toml_is_a_notice(folder, text):
    (folder / "bad.toml").write_bytes(text)
    persona = personas(folder).get("bad")
    assert len(persona.problems) == 1
    assert persona.table.as_layer() == ChatSettings()


def test_what_is_no_file_is_a_notice(folder):
    os.mkfifo(folder / "pipe.toml")
    assert "no file" in personas(folder).get("pipe").problems[0]


@pytest.mark.parametrize(
    "name", ["gone", "../config", "/etc/passwd", ".hidden", "", "a/b", "x" * 99]
)
def test_no_name_leaves_the_folder(places, folder, name):
    places.config_file.write_text('system = "secret"\n')
    (folder / "there.toml").write_text("")
    service = SettingsService(places, {})
    with pytest.raises(NotFound, match="There are: there"):
        service.personas.get(name)
    told: list[str] = []
    service.on_problem = told.append
    assert service.layers(conversation(persona=name)).values.system is None
    assert "There is no persona" in told[0]


def test_a_changed_file_is_read_again(folder):
    found = personas(folder)
    path = folder / "p.toml"
    path.write_text('system = "one"')
    assert found.get("p").table.system == "one"
    path.write_text('system = "three"')
    assert found.get("p").table.system == "three"
    assert found.names() == ["p"]


@pytest.fixture
def presets_folder(places):
    places.presets.mkdir(parents=True)
    return places.presets


def test_a_preset_lies_below_the_persona_that_names_it(places, folder, presets_folder):
    (folder / "pirate.toml").write_text('system = "Arr."\npreset = "wild"\n[sampling]\ntop_k = 7\n')
    (presets_folder / "wild.toml").write_text(
        'about = "anything goes"\n[sampling]\ntemperature = 1.5\ntop_k = 99\n'
    )
    places.config_file.write_text(
        '[models."m"]\npersona = "pirate"\n[models."m".sampling]\ntemperature = 0.1\ntop_p = 0.5\n'
    )
    service = SettingsService(places, {})
    found = service.layers(None, ChatSettings(), "m")
    sampling = found.values.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (1.5, 7, 0.5)
    assert found.sources["persona"] == "per-model"
    assert found.sources["preset"] == "persona"
    assert found.sources["sampling.temperature"] == "preset"
    assert found.sources["sampling.top_k"] == "persona"
    chosen = service.layers(conversation(preset="none-such"), ChatSettings(), "m")
    assert chosen.sources["preset"] == "conversation"
    assert chosen.values.sampling.temperature == 0.1  # the file is gone: the model's own table


def test_a_preset_has_no_system_prompt(places, presets_folder):
    (presets_folder / "odd.toml").write_text('system = "x"\nmax_tokens = 5\n')
    found = SettingsService(places, {}).presets.get("odd")
    assert found.table.max_tokens == 5
    assert "system" in found.problems[0]
