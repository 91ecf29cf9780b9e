"""Searching, page by page; answers that cannot be; a hub that is away is asked once."""

import json
import subprocess
import sys

import httpx2
import pytest
from huggingface_hub import HfApi

from llmchat.core.discovery import Discovery
from llmchat.core.fitting import Fits
from llmchat.errors import HubError, NotFound, UsageError
from llmchat.hub.config import HubConfig
from llmchat.hub.search import quick
from llmchat.paths import Places
from tests.hub.conftest import Site, gguf_bytes
from tests.hub.server import Fault, Hub

MODEL = {"m-Q4_0.gguf": gguf_bytes(1000)}
FACTS = {
    "downloads": 1234,
    "likes": 5,
    "gated": "manual",
    "lastModified": "2026-10-01T00:00:00.000Z",
    "tags": ["gguf", "license:apache-2.0", "conversational"],
    "pipeline_tag": "image-text-to-text",
    "gguf": {
        "total": 8_000_000_000,
        "architecture": "qwen3",
        "context_length": 40_960,
        "chat_template": "{{ tools }}<think>",
    },
}


@pytest.fixture
def discovery(hub: Hub, site: Site) -> Discovery:
    return Discovery(environ=site.environ, models=site.models, config=site.config)


def publish(hub: Hub, count: int, name: str = "qwen") -> list[str]:
    names = [f"o/{name}-{number:03}-GGUF" for number in range(count)]
    for repo in names:
        hub.put(repo, MODEL)
    return names


def test_pages_follow_each_other_to_the_end(hub: Hub, discovery: Discovery):
    names = publish(hub, 25)
    hub.put("o/qwen-safetensors", {"model.safetensors": b"x"})
    page, seen, pages = discovery.search("qwen", limit=10), [], 1
    seen += [model.repo for model in page.models]
    while page.next:
        page, pages = discovery.search("qwen", limit=10, after=page.next), pages + 1
        seen += [model.repo for model in page.models]
    assert seen == names
    assert pages == 3
    assert hub.count("hub", "GET") == 3


def test_what_the_hub_says_of_a_model(hub: Hub, discovery: Discovery):
    hub.put("o/eyes-GGUF", MODEL)
    hub.facts["o/eyes-GGUF"] = FACTS
    [found] = discovery.search("eyes").models
    assert (found.downloads, found.likes, found.license) == (1234, 5, "apache-2.0")
    assert (found.parameters, found.architecture) == (8_000_000_000, "qwen3")
    assert (found.n_ctx_train, found.updated) == (40_960, 1_790_812_800.0)
    assert found.gated
    assert found.capabilities == ("chat", "thinking", "tools", "vision")


def test_orders_are_asked_of_the_hub(hub: Hub, discovery: Discovery):
    names = publish(hub, 3)
    for number, repo in enumerate(names):
        hub.facts[repo] = {"downloads": number, "tags": ["gguf"]}
    found = discovery.search("qwen", sort="downloads").models
    assert [model.repo for model in found] == names[::-1]
    assert "sort=downloads" in hub.requests[-1].path


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "../../etc/passwd"},
        {"id": "no-owner"},
        {"id": "a/b\x1b]0;x\x07"},
        {"id": 5},
        {"downloads": 1},
        {"id": "o/m", "downloads": "many"},
        {"id": "o/m", "tags": "gguf"},
        {"id": "o/m", "gguf": {"total": []}},
    ],
)
def test_an_entry_that_cannot_be_is_left_out_and_the_rest_stays(hub, discovery, entry):
    body = json.dumps([entry, {"id": "o/good-GGUF", "downloads": -5, "lastModified": "x"}])
    hub.hub_faults.append(Fault(body=body.encode()))
    [found] = discovery.search("x").models
    assert (found.repo, found.downloads, found.updated) == ("o/good-GGUF", 0, 0.0)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[" * 100_000, b'"x"', b"\xff\xfe"])
def test_an_answer_that_is_no_list_is_refused(hub, discovery, body):
    hub.hub_faults.append(Fault(body=body))
    with pytest.raises(HubError) as caught:
        discovery.search("x")
    assert caught.value.key == "hub.bad_answer"


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/api/models?x", "//evil.test/api/models?x", "https://[bad"]
)
def test_a_next_page_elsewhere_is_refused(hub, discovery, link):
    publish(hub, 1)
    hub.hub_faults.append(Fault(headers={"Link": f'<{link}>; rel="next"'}))
    with pytest.raises(HubError) as caught:
        discovery.search("qwen")
    assert caught.value.key == "hub.bad_answer"
    with pytest.raises(HubError) as caught:
        discovery.search("qwen", after="/evil?x")
    assert caught.value.key == "hub.bad_answer"
    assert hub.count("hub", "GET") == 1


def test_offline_asks_nobody(hub: Hub, site: Site):
    environ = site.environ | {"HF_HUB_OFFLINE": "1"}
    discovery = Discovery(environ=environ, models=site.models)
    for ask in (discovery.search, discovery.repository, discovery.card):
        with pytest.raises(HubError) as caught:
            ask("o/m")
        assert caught.value.key == "hub.search_offline"
        assert caught.value.exit_code == 5
    assert hub.requests == []


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        (Fault(status=429, headers={"Retry-After": "30"}), "hub.busy"),
        (Fault(status=503), "hub.busy"),
        (Fault(cut=1, body=b"[" * 100), "hub.no_answer"),
    ],
)
def test_a_hub_that_cannot_answer_is_asked_once(hub, discovery, fault, key):
    hub.hub_faults.append(fault)
    with pytest.raises(HubError) as caught:
        discovery.search("x")
    assert (caught.value.key, caught.value.exit_code) == (key, 5)
    assert caught.value.sentence
    assert len(hub.requests) == 1
    if fault.status == 429:
        assert "30 s" in caught.value.sentence


def test_a_hub_that_is_not_there(places: Places, site: Site):
    config = HubConfig(endpoint="http://127.0.0.1:9")
    with pytest.raises(HubError) as caught:
        Discovery(environ={}, models=site.models, config=config).search("x")
    assert caught.value.key == "hub.no_answer"


def test_a_person_does_not_wait_as_a_download_does():
    patient = HubConfig(connect_timeout=60, read_timeout=600)
    assert (quick(patient).connect_timeout, quick(patient).read_timeout) == (5, 10)
    assert quick(HubConfig(read_timeout=1)).read_timeout == 1


def test_a_repository_and_what_of_it_is_here(hub: Hub, site: Site, discovery: Discovery):
    files = {
        "m-Q4_K_M.gguf": gguf_bytes(3000),
        "m-Q8_0-00001-of-00002.gguf": gguf_bytes(4000, 1),
        "m-Q8_0-00002-of-00002.gguf": gguf_bytes(5000, 2),
        "mmproj-F16.gguf": gguf_bytes(700, 3),
        "imatrix.gguf": gguf_bytes(100),
    }
    hub.put("o/m-GGUF", files)
    site.pull("o/m-GGUF:Q4_K_M")
    repository, reference = discovery.repository("https://huggingface.co/o/m-GGUF@q8_0")
    assert reference.selector == "q8_0"
    small, large = repository.offers
    assert (small.name, small.size, small.here, small.usual) == (
        "o/m-GGUF:Q4_K_M",
        3000,
        3000,
        True,
    )
    assert (large.name, large.size, large.here, large.usual) == ("o/m-GGUF:Q8_0", 9000, 0, False)
    assert large.sizes == (4000, 5000)
    assert (large.projector, large.projector_size) == ("mmproj-F16.gguf", 700)
    assert repository.choose("q8_0") == large
    assert repository.choose() == small
    with pytest.raises(NotFound) as caught:
        repository.choose("q2_k")
    assert "Q4_K_M, Q8_0" in caught.value.sentence


def test_a_word_that_is_no_repository(discovery: Discovery):
    for ref in ("nonsense", "./file.gguf"):
        with pytest.raises(UsageError) as caught:
            discovery.reference(ref)
        assert caught.value.key == "hub.not_a_repository"


@pytest.mark.parametrize("status", [401, 404])
def test_a_repository_that_is_private_or_gone(hub, discovery, status):
    hub.hub_faults.append(Fault(status=status, headers={"X-Error-Code": "RepoNotFound"}))
    with pytest.raises(NotFound) as caught:
        discovery.repository("o/gone")
    assert caught.value.key == "hub.no_repo"


def test_a_renamed_repository_is_followed(hub: Hub, discovery: Discovery):
    hub.put("o/new-GGUF", MODEL)
    hub.renamed["o/old-GGUF"] = "o/new-GGUF"
    repository, _ = discovery.repository("o/old-GGUF")
    assert [offer.label for offer in repository.offers] == ["Q4_0"]


def test_huggingface_hub_itself_is_answered(hub: Hub):
    """The tests' hub is right where the real client is happy with it."""
    names = publish(hub, 25)
    hub.put("o/other", {"model.safetensors": b"x"})
    hub.facts[names[7]] = {"tags": ["gguf"], "likes": 9, "gated": "auto"}
    with httpx2.Client():
        api = HfApi(endpoint=hub.endpoint, token=False)
        listed = list(api.list_models(search="qwen", filter="gguf", limit=23))
        assert [model.id for model in listed] == names[:23]
        assert [m.id for m in api.list_models(search="qwen", sort="likes", limit=1)] == [names[7]]
        expanded = list(api.list_models(search=names[7], expand=["likes", "gated"]))
    assert (expanded[0].likes, expanded[0].gated, expanded[0].downloads) == (9, "auto", None)


_WATCHED = """
import sys
asked = set()
def watch(event, args):
    if event == "socket.connect":
        asked.add(args[1][1])
sys.addaudithook(watch)
from llmchat.cli.main import main
codes = [int(main(words.split())) for words in sys.argv[1:]]
print(codes, sorted(asked))
"""


def test_nobody_else_is_asked(hub: Hub, site: Site):
    hub.put(
        "o/m-GGUF",
        {"m-Q4_0.gguf": gguf_bytes(3000), "README.md": b"# M ![x](http://127.0.0.1:9/b)"},
    )
    lines = ["search m", "search o/m-GGUF --variants", "search o/m-GGUF --card", "show o/m-GGUF"]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *lines],
        capture_output=True, text=True, timeout=120, check=True, env=site.environ,
    )  # fmt: skip
    ports = sorted(int(address.rpartition(":")[2]) for address in (hub.endpoint, hub.cdn))
    assert done.stdout.splitlines()[-1] == f"[0, 0, 0, 0] {ports}"


def test_the_token_goes_to_the_endpoint_alone(hub: Hub, site: Site):
    hub.put("o/m-GGUF", {"m-Q4_0.gguf": gguf_bytes(3000)})
    hub.token = "hf_secret"
    environ = site.environ | {"HF_TOKEN": "hf_secret"}
    fits = Fits(
        models=site.models,
        devices=lambda: (),
        discovery=Discovery(environ=environ, models=site.models),
    )
    assert [row.fit for row in fits.variants("o/m-GGUF")] == [None]
    tokens = {(asked.server, asked.headers.get("authorization")) for asked in hub.requests}
    assert tokens == {("hub", "Bearer hf_secret"), ("cdn", None)}
