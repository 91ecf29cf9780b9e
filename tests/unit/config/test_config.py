import os
import re
import stat
from pathlib import Path

import msgspec
import pytest

from llmchat.config.reading import PREFIX, SHORT_NAMES, read_environment, read_file
from llmchat.config.reference import OTHERS, reference
from llmchat.config.schema import LIMITS, ChatTable, ModelTable, every_key
from llmchat.config.writing import set_value
from llmchat.core.settings import DEFAULT, SettingsService
from llmchat.errors import ConfigError, NotFound
from llmchat.text import catalogue
from llmchat.values import ChatSettings, Sampling, Wants


@pytest.fixture
def path(places):
    places.config.mkdir(parents=True)
    return places.config_file


def test_no_file_is_no_problem(path):
    assert read_file(path).problems == ()


def test_everything_is_read(path):
    path.write_text(
        """
[chat]
model = "smol"
thinking = "low"
stop = ["\\n\\n"]
keep_alive = -1
[sampling]
temperature = 1
logit_bias = {5 = -100}
[load]
n_ctx = 4096
n_gpu_layers = "all"
[library]
folders = ["~/models"]
[ui]
theme = "paper"
[aliases]
smol = "owner/repo:Q4_K_M"
[models."owner/repo:Q4_K_M"]
system = "Be brief."
sampling.top_k = 1
load = {n_ctx = 100}
"""
    )
    loaded = read_file(path)
    assert loaded.problems == ()
    found = loaded.settings
    assert found.as_layer() == ChatSettings(
        model="smol",
        thinking="low",
        stop=("\n\n",),
        keep_alive=-1,
        sampling=Sampling(temperature=1.0, logit_bias={5: -100.0}),
        wants=Wants(n_ctx=4096, n_gpu_layers="all"),
    )
    assert found.library.folders == ("~/models",)
    assert found.aliases == {"smol": "owner/repo:Q4_K_M"}
    assert found.models["owner/repo:Q4_K_M"].as_layer() == ChatSettings(
        system="Be brief.", sampling=Sampling(top_k=1), wants=Wants(n_ctx=100)
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[sampling]\ntemprature = 1", 2, "There is no setting sampling.temprature. Did you mean"),
        ("\n[samplign]\ntop_k = 1", 2, "There is no setting samplign. Did you mean sampling?"),
        ("[sampling]\n\ntop_k = 'many'", 3, "sampling.top_k cannot be many"),
        ("[sampling]\ntop_p = 1.5", 2, "sampling.top_p cannot be 1.5: 0 to 1."),
        ("[sampling]\ntemperature = nan", 2, "sampling.temperature cannot be nan"),
        ("[load]\nn_ctx = 0", 2, "load.n_ctx cannot be 0"),
        ("[chat]\ncontext_policy = 'forget'", 2, "chat.context_policy cannot be forget"),
        ("chat = 1", 1, "There is no setting chat"),
        ("[aliases]\na = 1", 2, "aliases.a must be text"),
        ("[models]\nx = 1", 2, "models.x must be a table"),
        ("[models.x]\nsampling = 1", 2, "models.x.sampling must be a table"),
        ("[models.x.sampling]\ntop_q = 1", 2, "There is no setting models.x.sampling.top_q"),
    ],
)
def test_a_mistake_is_named_and_costs_only_itself(path, text, line, words):
    path.write_text(text + "\n[ui]\ntheme = 'paper'\n")
    loaded = read_file(path)
    (problem,) = loaded.problems
    assert problem.startswith(f"{path}:{line}: {words}")
    assert loaded.settings.ui.theme == "paper"
    assert loaded.settings.sampling == Sampling()


@pytest.mark.parametrize("data", [b"[chat", b"\xff\xfe", b"a = 1\na = 2", b"\0"])
def test_a_file_that_is_no_toml_is_a_sentence(path, data):
    path.write_bytes(data)
    loaded = read_file(path)
    (problem,) = loaded.problems
    assert str(path) in problem
    assert loaded.settings.as_layer() == ChatSettings()


def test_a_folder_in_the_files_place(path):
    path.mkdir()
    assert "no file" in read_file(path).problems[0]


def test_a_fifo_or_a_giant_is_not_read(path):
    os.mkfifo(path)
    assert "no file" in read_file(path).problems[0]
    path.unlink()
    path.write_text("# " + "x" * 1024 * 1024)
    assert "larger than 1 MiB" in read_file(path).problems[0]


def test_the_environment():
    loaded = read_environment(
        {
            "LLMCHAT_SAMPLING_TEMPERATURE": "0.5",
            "LLMCHAT_MODEL": "123",
            "LLMCHAT_CHAT_STOP": "a,b",
            "LLMCHAT_LIBRARY_FOLDERS": "/a b",
            "LLMCHAT_LOAD_N_CTX": "many",
            "LLMCHAT_HOME": "/x",
        }
    )
    assert loaded.settings.sampling.temperature == 0.5
    assert loaded.settings.chat.model == "123"
    assert loaded.settings.chat.stop == ("a", "b")
    assert loaded.settings.library.folders == ("/a b",)
    (problem,) = loaded.problems
    assert problem.startswith("LLMCHAT_LOAD_N_CTX: load.n_ctx cannot be many")


def test_writing_keeps_comments_and_links(path, tmp_path):
    kept = tmp_path / "dotfiles" / "llmchat.toml"
    kept.parent.mkdir()
    kept.write_text("# mine\n[sampling]  # how\ntop_k = 3 # three\n\n[aliases]\n")
    kept.chmod(0o640)
    path.symlink_to(kept)
    set_value(path, ("sampling", "top_k"), 4)
    set_value(path, ("models", "a/b:c", "sampling", "top_p"), 0.5)
    set_value(path, ("chat", "stop"), ("x", "y"))
    set_value(path, ("aliases", "nothing"), None)
    set_value(path, ("ui", "theme"), None)
    text = kept.read_text()
    assert "# mine\n[sampling]  # how\ntop_k = 4 # three\n" in text
    assert path.is_symlink()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    loaded = read_file(path)
    assert loaded.problems == ()
    assert loaded.settings.models["a/b:c"].sampling.top_p == 0.5
    assert loaded.settings.chat.stop == ("x", "y")
    assert [name.name for name in kept.parent.iterdir()] == ["llmchat.toml"]
    set_value(path, ("sampling", "top_k"), None)
    assert read_file(path).settings.sampling == Sampling()


def test_a_broken_file_is_not_written_over(path):
    path.write_text("[chat")
    with pytest.raises(ConfigError, match="no valid TOML"):
        set_value(path, ("chat", "model"), "m")
    assert path.read_text() == "[chat"


def test_a_place_that_cannot_be_written(path):
    path.parent.rmdir()
    path.parent.write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        set_value(path, ("chat", "model"), "m")


def test_the_service_reads_writes_and_explains(places):
    service = SettingsService(places, {"LLMCHAT_SAMPLING_TOP_K": "7"})
    service.set("temperature", "0.25")
    service.set("load.n_gpu_layers", "all")
    service.set("chat.model", "owner/repo:Q4_0")
    service.set('models."owner/repo:Q4_0".sampling.seed', "5")
    service.set("aliases.small", "owner/repo")
    known = {facts.key: facts for facts in service.describe()}
    assert (known["sampling.temperature"].value, known["sampling.temperature"].source) == (
        0.25,
        "config.toml",
    )
    assert known["sampling.top_k"].source == "environment"
    assert known["chat.context_policy"].source == DEFAULT
    assert known["aliases.small"].value == "owner/repo"
    assert service.layers().values.sampling == Sampling(temperature=0.25, top_k=7, seed=5)
    assert service.get("wants.n_gpu_layers").value == "all"
    assert service.get('models."owner/repo:Q4_0".sampling.seed').value == 5
    assert service.get("aliases.small").value == "owner/repo"
    service.set("temperature", None)
    assert service.get("temperature").source == DEFAULT
    for key in ("temprature", "chat", "models.x", "a b", "", "models.x.y.z", "\n"):
        with pytest.raises((NotFound, ConfigError)):
            service.get(key)
    with pytest.raises(NotFound, match=r"sampling\.temperature"):
        service.set("sampling.temprature", "1")
    for key, text in (("temperature", "-1"), ("n_ctx", "lots"), ("top_p", "nan")):
        with pytest.raises(ConfigError):
            service.set(key, text)
    assert SettingsService(places, {}).problems == ()


def test_the_tables_and_the_values_agree():
    """A field added to ChatSettings can be set in the file, and is explained."""
    chat = {field.name for field in msgspec.structs.fields(ChatSettings)}
    table = {field.name for field in msgspec.structs.fields(ChatTable)}
    once = {"constraint", "tools"}  # belong to one message
    assert chat - {"sampling", "wants"} - once == table - {"titles"}
    per_model = {field.name for field in msgspec.structs.fields(ModelTable)}
    assert per_model - {"load"} <= chat
    english = catalogue("en")
    for key in every_key():
        assert f"config.about_{key.replace('.', '_')}" in english, key
    about = [key for key in english if key.startswith("config.about_")]
    assert len(about) == len(every_key())
    assert set(LIMITS) <= set(every_key())


def test_the_page_is_made_from_the_schema():
    page = Path(__file__).parents[3] / "docs" / "config.md"
    assert page.read_text() == reference(), "python -m llmchat.config.reference > docs/config.md"


def test_the_page_lists_every_variable_that_the_code_reads():
    root = Path(__file__).parents[3]
    code = [path.read_text(encoding="utf-8") for path in (root / "llmchat").rglob("*.py")]
    read = {name for text in code for name in re.findall(r"""["'](LLMCHAT_[A-Z_]+)["']""", text)}
    assert read == set(SHORT_NAMES) | set(OTHERS)
    told = [*code, (root / "start").read_text(), (root / "llmchat/text/en.toml").read_text()]
    told += [page.read_text(encoding="utf-8") for page in (root / "docs").glob("*.md")]
    named = {name for text in told for name in re.findall(r"\bLLMCHAT_[A-Z_]*[A-Z]\b", text)}
    settings = {PREFIX + key.upper().replace(".", "_") for key in every_key()}
    placeholders = {"LLMCHAT_TABLE_FIELD", "LLMCHAT_TABLE_KEY"}
    assert named <= read | settings | placeholders
