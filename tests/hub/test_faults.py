"""Servers that err and servers that lie: right content or a clear error (security plan B3 to B6).

Before and after each attack the whole temporary home is compared: nothing is written elsewhere.
"""

import json
import os
import resource
import time
from pathlib import Path

import pytest

from llmchat.errors import ExitCode, HubError, LlmchatError, NotFound
from llmchat.hub.answers import distinct, safe_path
from tests.hub.conftest import FILE, REPO, SEED, Site, gguf_bytes, sha256, tell
from tests.hub.server import COMMIT, Fault

SIZE = 1_000_000


@pytest.fixture
def content(hub) -> bytes:
    content = gguf_bytes(SIZE)
    hub.put(REPO, {FILE: content})
    return content


# B3: ranges, encodings, addresses.


@pytest.mark.parametrize(
    "fault",
    [
        Fault(ignore_range=True),
        Fault(headers={"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}),
        Fault(headers={"Content-Range": f"bytes 1-{SIZE - 1}/{SIZE + 1}"}),
        Fault(headers={"Content-Range": None}),
        Fault(headers={"Content-Range": "bytes */5"}),
        Fault(status=416),
        Fault(status=403),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(headers={"Content-Length": str(SIZE + 5)}, cut=SIZE, end="fin"),
    ],
    ids=lambda fault: f"{fault.status}-{fault.headers}-{fault.ignore_range}",
)
def test_odd_answers_to_a_range_are_never_mixed_in(hub, site, content, fault):
    hub.cdn_faults += [Fault(cut=SIZE // 3), fault]
    assert Path(site.pull().path).read_bytes() == content
    assert hub.signature >= 2, "each try asked for a new address"


def test_the_content_changes_between_plan_and_pull(hub, site, content):
    plan = site.plan()
    hub.put(REPO, {FILE: gguf_bytes(SIZE, seed=SEED + 1)})
    with pytest.raises(HubError) as caught:
        site.downloads.pull(plan, site.progress.append, site.stop)
    assert caught.value.key == "hub.changed"
    assert site.models.list() == []


def test_a_mirror_that_sends_the_file_itself(hub, site, content):
    hub.direct = True
    assert Path(site.pull().path).read_bytes() == content


# B4: statuses.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_cdn_is_asked_again(hub, site, content, status):
    hub.cdn_faults += [Fault(status=status, headers={"Retry-After": "0"})] * 3
    assert Path(site.pull().path).read_bytes() == content
    assert hub.count("cdn", "GET") == 4


def test_retry_after_is_heeded(hub, site, content):
    hub.cdn_faults.append(Fault(status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    site.pull()
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("status", "code", "key", "exit_code"),
    [
        (401, "RepoNotFound", "hub.no_repo", ExitCode.NOT_FOUND),
        (404, "RepoNotFound", "hub.no_repo", ExitCode.NOT_FOUND),
        (404, "RevisionNotFound", "hub.no_revision", ExitCode.NOT_FOUND),
        (404, "EntryNotFound", "hub.no_file", ExitCode.NOT_FOUND),
        (401, "GatedRepo", "hub.gated", ExitCode.NETWORK),
        (403, "GatedRepo", "hub.gated", ExitCode.NETWORK),
        (403, "", "hub.not_allowed", ExitCode.NETWORK),
        (418, "", "hub.refused", ExitCode.NETWORK),
        (503, "", "hub.unreachable", ExitCode.NETWORK),
    ],
)
def test_a_refusal_of_the_hub_is_a_sentence_with_a_next_step(
    hub, site, content, status, code, key, exit_code
):
    hub.hub_faults += [Fault(status=status, headers={"X-Error-Code": code})] * 8
    with pytest.raises(LlmchatError) as caught:
        site.plan()
    error = caught.value
    assert (error.key, error.exit_code) == (key, exit_code)
    assert error.sentence
    assert key == "hub.refused" or error.hint


# B5: content that is not what it says.


def test_one_flipped_byte_at_fifty_offsets(hub, site, content):
    rejected = 0
    plan = site.plan()
    for number in range(50):
        hub.cdn_faults.append(Fault(flip=number * (SIZE // 50)))
        with pytest.raises(HubError) as caught:
            site.downloads.pull(plan, site.progress.append, site.stop)
        assert caught.value.key == "hub.checksum"
        assert sha256(content) in caught.value.sentence
        assert str(caught.value.values["got"]) in caught.value.sentence
        assert site.parts() == []
        assert site.models.list() == []
        rejected += 1
    tell(f"B5: {rejected} of 50 flipped bytes rejected")
    assert Path(site.pull().path).read_bytes() == content


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut=SIZE - 10, end="fin"),
        Fault(extra=b"0123456789"),
        Fault(extra=b"0123456789", headers={"Content-Length": None}, end="fin", cut=SIZE + 10),
    ],
    ids=["short", "long", "long-unannounced"],
)
def test_too_short_and_too_long(hub, places, tmp_path, content, fault):
    hub.always = fault
    site = Site(hub, places, tmp_path / "hf")
    if fault.cut == SIZE - 10:  # the next try brings the rest
        hub.always = None
        hub.cdn_faults.append(fault)
        assert Path(site.pull().path).read_bytes() == content
        return
    with pytest.raises(HubError):
        site.pull()
    assert site.models.list() == []


@pytest.mark.parametrize("size", ["0", "-1", str(2**63), "x", "1e6", str(SIZE + 1), " 5"])
def test_a_lying_size(hub, site, content, size):
    plan = site.plan()
    hub.hub_faults.append(Fault(headers={"X-Linked-Size": size}))
    with pytest.raises(HubError):
        site.downloads.pull(plan, site.progress.append, site.stop)
    assert site.models.list() == []
    assert hub.sent == 0


# B6: a hostile hub.


def everything(root: Path) -> set[str]:
    """Every path below `root`."""
    return {
        os.path.join(where, name) for where, dirs, names in os.walk(root) for name in dirs + names
    }


HOSTILE = [
    "../../../evil.gguf",
    "/etc/evil.gguf",
    "a/../../b.gguf",
    "a\\..\\b.gguf",
    "a\0b.gguf",
    "a\x1b]0;x\x07.gguf",
    "x" * 300 + ".gguf",
    "con.gguf",
    "C:evil.gguf",
    "a//b.gguf",
    "./m.gguf",
    "m.gguf.",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_never_become_paths(hub, site, tmp_path, name):
    assert not safe_path(name)
    hub.put(REPO, {name: b"GGUF"})
    before = everything(tmp_path)
    with pytest.raises(NotFound):
        site.plan(REPO)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "names", [["m-Q4_0.gguf", "M-q4_0.gguf"], ["caf\u00e9.gguf", "cafe\u0301.gguf"]]
)
def test_names_that_one_disk_takes_for_one(hub, site, names):
    assert not distinct(names)
    hub.put(REPO, {name: b"GGUF" + name.encode() for name in names})
    with pytest.raises(HubError):
        site.plan(REPO)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Linked-ETag": '"../../../evil"'},
        {"X-Linked-ETag": "a" * 300},
        {"X-Linked-ETag": '"' + "g" * 64 + '"'},
        {"X-Repo-Commit": "../" * 10},
        {"X-Repo-Commit": "main"},
        {"X-Repo-Commit": "d" * 40},
        {"Location": "file:///etc/passwd"},
        {"Location": "http://192.0.2.1/x"},
        {"Location": "http://user:pw@127.0.0.1/x"},
        {"Location": "gopher://127.0.0.1/x"},
        {"Location": "//[::1"},
        {"Location": None},
    ],
    ids=str,
)
def test_hostile_headers_stop_the_pull(hub, site, tmp_path, content, headers):
    plan = site.plan()
    hub.hub_faults.append(Fault(headers=headers))
    with pytest.raises(HubError) as caught:
        site.downloads.pull(plan, site.progress.append, site.stop)
    assert caught.value.key in ("hub.bad_answer", "hub.changed")
    assert hub.sent == 0
    assert site.models.list() == []
    assert not any("evil" in path for path in everything(tmp_path))


@pytest.mark.parametrize(
    "body",
    [
        b'{"sha": "../../x"}',
        b'{"sha": 5}',
        b"[" * 100_000,
        b'{"sha": ' + b'{"a":' * 100_000,
        b"\xff\xfe",
        b"",
        b"null",
    ],
    ids=["path", "number", "deep-list", "deep-object", "not-utf8", "empty", "null"],
)
def test_hostile_json(hub, site, content, body):
    hub.hub_faults.append(Fault(body=body))
    with pytest.raises(HubError) as caught:
        site.plan()
    assert caught.value.key == "hub.bad_answer"


def test_a_huge_answer_is_cut_off(hub, site, content):
    hub.hub_faults.append(Fault(body=b'{"sha": "' + b"a" * 100_000_000 + b'"}'))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HubError) as caught:
        site.plan()
    assert caught.value.key == "hub.bad_answer"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    tell(f"B6: 100 MB of JSON refused, {grown} MB more resident")
    assert grown <= 300


def test_an_endless_list_ends(hub, site):
    """`Link: next` for ever: pages and entries are counted."""
    hub.put(REPO, {FILE: b"GGUF"})
    hub.hub_faults.append(Fault())
    tree = f"/api/models/{REPO}/tree/{COMMIT}?recursive=true&page=0"
    hub.hub_faults += [Fault(headers={"Link": f'<{tree}>; rel="next"'}) for _ in range(500)]
    with pytest.raises(HubError) as caught:
        site.plan()
    assert caught.value.key == "hub.too_many_files"
    assert len(hub.requests) <= 102


def test_a_list_of_a_million_entries_ends(hub, site):
    entry = {"type": "file", "path": "x", "size": 1, "oid": "a"}
    hub.put(REPO, {FILE: b"GGUF"})
    page = json.dumps([entry] * 60_000).encode()
    tree = f"/api/models/{REPO}/tree/{COMMIT}"
    hub.hub_faults.append(Fault())
    hub.hub_faults += [
        Fault(body=page, headers={"Link": f'<{tree}>; rel="next"'}) for _ in range(20)
    ]
    with pytest.raises(HubError) as caught:
        site.plan()
    assert caught.value.key == "hub.too_many_files"


def test_the_next_page_may_not_lead_away(hub, site, content):
    hub.hub_faults += [Fault(), Fault(headers={"Link": f'<{hub.cdn}/x>; rel="next"'})]
    with pytest.raises(HubError):
        site.plan()
    assert hub.count("cdn", "GET") == 0


def test_redirects_in_a_circle_end(hub, site, content):
    plan = site.plan()
    where = f"{hub.endpoint}/{REPO}/resolve/{COMMIT}/{FILE}"
    hub.hub_faults += [Fault(headers={"Location": where}) for _ in range(50)]
    with pytest.raises(HubError):
        site.downloads.pull(plan, site.progress.append, site.stop)
    hub.hub_faults.clear()
    hub.cdn_faults += [
        Fault(status=302, headers={"Location": f"{hub.cdn}/{REPO}/{FILE}"}) for _ in range(50)
    ]
    with pytest.raises(HubError):
        site.downloads.pull(plan, site.progress.append, site.stop)


def test_a_planted_link_leads_nothing_out_of_the_folder(hub, site, tmp_path, content):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = site.cache / "models--o--model-GGUF"
    folder.mkdir(parents=True)
    (folder / "snapshots").symlink_to(elsewhere)
    with pytest.raises(HubError) as caught:
        site.pull()
    assert caught.value.key == "hub.leads_away"
    assert list(elsewhere.rglob("*.gguf")) == []


def test_what_the_hub_says_in_errors_is_not_believed(hub, site, content):
    """A body with an escape sequence never reaches the sentence."""
    with pytest.raises(NotFound) as caught:
        site.plan("o/absent")
    assert "\x1b" not in caught.value.sentence
