"""Files of other programs, in the shapes that those programs write."""

import json
from collections.abc import Sequence

import pytest

from llmchat.core.carrying import bring_in
from llmchat.core.exporting import reading
from llmchat.core.exporting.branches import branch, words
from llmchat.store.store import Store, memory_store
from llmchat.values import SavedConversation, SavedMessage


@pytest.fixture
def store():
    store = memory_store("cli")
    yield store
    store.close()


def read(data: object) -> tuple[SavedConversation, ...]:
    return reading.read(json.dumps(data).encode()).conversations


def one(data: object) -> SavedConversation:
    (saved,) = read(data)
    return saved


def texts(messages: Sequence[SavedMessage]) -> list[tuple[str, str]]:
    return [(message.role, words(message)) for message in messages]


def kinds(message: SavedMessage) -> list[tuple[str, str]]:
    return [(part.kind, part.text) for part in message.parts]


# ChatGPT


def chatgpt_node(
    id_: str,
    parent: str | None,
    role: str,
    content: dict[str, object],
    *children: str,
    **more: object,
) -> dict[str, object]:
    message = {
        "id": id_,
        "author": {"role": role, "name": more.pop("name", None), "metadata": {}},
        "create_time": 1700000000.5,
        "content": content,
        "status": "finished_successfully",
        "recipient": more.pop("recipient", "all"),
        "metadata": more,
    }
    return {"id": id_, "message": message, "parent": parent, "children": list(children)}


def said(*parts: object) -> dict[str, object]:
    return {"content_type": "text", "parts": list(parts)}


def chatgpt() -> dict[str, object]:
    nodes: list[dict[str, object]] = [
        {"id": "root", "message": None, "parent": None, "children": ["sys"]},
        chatgpt_node(
            "sys", "root", "system", said(""), "q", is_visually_hidden_from_conversation=True
        ),
        chatgpt_node("q", "sys", "user", said("Why is the sky blue?"), "a1", "a2"),
        chatgpt_node("a1", "q", "assistant", said("Old answer"), model_slug="gpt-4o"),
        chatgpt_node(
            "a2", "q", "assistant",
            {"content_type": "thoughts", "thoughts": [{"summary": "Light", "content": "Rayleigh"}]},
            "call",
        ),
        chatgpt_node(
            "call", "a2", "assistant",
            {"content_type": "code", "language": "python", "text": "1+1"},
            "out", recipient="python",
        ),
        chatgpt_node(
            "out", "call", "tool", {"content_type": "execution_output", "text": "2"},
            "end", name="python",
        ),
        chatgpt_node(
            "end", "out", "assistant",
            {
                "content_type": "multimodal_text",
                "parts": [{"content_type": "image_asset_pointer"}, "Because."],
            },
            model_slug="gpt-5",
        ),
    ]  # fmt: skip
    return {
        "title": "Sky\x1b[2J",
        "create_time": 1700000000.0,
        "update_time": 1700000100.0,
        "mapping": {str(node["id"]): node for node in nodes},
        "current_node": "a1",
        "conversation_id": "c-1",
    }


def test_chatgpt_keeps_every_version_and_the_one_that_was_shown():
    saved = one([chatgpt()])
    assert (saved.created, saved.updated) == (1700000000.0, 1700000100.0)
    assert texts(branch(saved)) == [("user", "Why is the sky blue?"), ("assistant", "Old answer")]
    shown = branch(saved)[-1]
    assert shown.generation is not None
    assert shown.generation.model == "gpt-4o"
    other = branch(saved, saved.messages[-1].id)
    assert [kinds(message) for message in other[1:]] == [
        [("thinking", "Light\n\nRayleigh")],
        [("tool_call", "1+1")],
        [("tool_result", "2")],
        [("text", "[image]\n\nBecause.")],
    ]


def test_circles_and_strays_in_a_mapping_lose_no_word():
    saved = one(
        {
            "mapping": {
                "a": chatgpt_node("a", "b", "user", said("one"), "b", "nowhere"),
                "b": chatgpt_node("b", "a", "assistant", said("two"), "a", "b"),
                "c": chatgpt_node("c", "gone", "user", said("three")),
                "d": "nonsense",
            }
        }
    )
    assert sorted(words(message) for message in saved.messages) == ["one", "three", "two"]
    assert [message.parent for message in saved.messages].count(None) == 2


def test_a_conversation_of_20000_messages_is_a_chain_and_no_recursion():
    nodes = {
        f"n{i}": chatgpt_node(f"n{i}", f"n{i - 1}", "user", said(str(i)), f"n{i + 1}")
        for i in range(20_000)
    }
    saved = one({"mapping": nodes, "current_node": "n19999"})
    assert len(branch(saved)) == 20_000


# Open WebUI


def openwebui() -> dict[str, object]:
    reasoning = (
        '<details type="reasoning" done="true" duration="3">\n'
        "<summary>Thought for 3 seconds</summary>\n&gt; is it &lt;2?\n> no\n</details>\nFour."
    ).replace("&gt; is", "> is")
    messages = {
        "u1": {"id": "u1", "parentId": None, "childrenIds": ["a1", "a2"], "role": "user",
               "content": "2+2?", "timestamp": 1700000001, "models": ["llama3"]},
        "a1": {"id": "a1", "parentId": "u1", "childrenIds": [], "role": "assistant",
               "content": reasoning, "model": "llama3:8b", "timestamp": 1700000002, "done": True},
        "a2": {"id": "a2", "parentId": "u1", "childrenIds": [], "role": "assistant",
               "content": "", "error": {"content": "out of memory"}, "model": "qwen"},
    }  # fmt: skip
    chat = {
        "title": "Sums",
        "models": ["llama3"],
        "params": {"system": "Be exact."},
        "history": {"messages": messages, "currentId": "a1"},
        "messages": [],
        "timestamp": 1700000000123,
    }
    return {
        "id": "x",
        "user_id": "y",
        "title": "Sums",
        "chat": chat,
        "updated_at": 1700000009,
        "created_at": 1700000000,
        "pinned": True,
    }


def test_open_webui_keeps_versions_reasoning_and_errors():
    saved = one([openwebui()])
    assert (saved.title, saved.pinned, saved.settings.system) == ("Sums", True, "Be exact.")
    reply = branch(saved)[-1]
    assert kinds(reply) == [("thinking", "is it <2?\nno"), ("text", "Four.")]
    failed = saved.messages[-1]
    assert (failed.status, failed.error) == ("failed", "out of memory")
    assert failed.parent == reply.parent
    assert one(openwebui()["chat"]).messages == saved.messages


# LM Studio


def lmstudio() -> dict[str, object]:
    def user(*texts: str) -> list[dict[str, object]]:
        return [
            {"type": "singleStep", "role": "user", "content": [{"type": "text", "text": text}]}
            for text in texts
        ]

    def block(*content: dict[str, object], style: str | None = None) -> dict[str, object]:
        found: dict[str, object] = {"type": "contentBlock", "content": list(content)}
        return found | ({"style": {"type": style}} if style else {})

    steps = [
        block({"type": "text", "text": "hm"}, style="thinking"),
        block({"type": "toolCallRequest", "callId": 7, "name": "read", "parameters": {"p": "ü"}}),
        block({"type": "toolCallResult", "callId": 7, "content": "result"}),
        block({"type": "text", "text": "Second"})
        | {"genInfo": {"indexedModelIdentifier": "qwen/qwen3-4b"}},
        {"type": "debugInfoBlock", "debugInfo": "..."},
    ]
    return {
        "name": "My chat",
        "pinned": False,
        "createdAt": 1732500000000,
        "systemPrompt": "Be kind.",
        "messages": [
            {"versions": user("First try", "Edited"), "currentlySelected": 1},
            {
                "versions": [
                    {"type": "multiStep", "role": "assistant", "steps": [
                        block({"type": "text", "text": "First"})]},
                    {"type": "multiStep", "role": "assistant", "steps": steps},
                ],
                "currentlySelected": 1,
            },
            {"versions": user("Thanks"), "currentlySelected": 0},
        ],
        "lastUsedModel": {"identifier": "qwen3-4b"},
    }  # fmt: skip


def test_lm_studio_keeps_versions_thinking_and_tools():
    saved = one(lmstudio())
    assert (saved.title, saved.created, saved.settings.system) == (
        "My chat",
        1732500000.0,
        "Be kind.",
    )
    shown = branch(saved)
    assert texts(shown) == [("user", "Edited"), ("assistant", "Second"), ("user", "Thanks")]
    assert kinds(shown[1]) == [
        ("thinking", "hm"),
        ("tool_call", '{"p": "ü"}'),
        ("tool_result", "result"),
        ("text", "Second"),
    ]
    assert shown[1].generation is not None
    assert shown[1].generation.model == "qwen/qwen3-4b"
    assert [words(m) for m in saved.messages if m.parent is None] == ["First try", "Edited"]
    assert [words(m) for m in saved.messages if m.parent == shown[0].id] == ["First", "Second"]


# OpenAI-style messages


def test_messages_with_roles_are_a_row():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "A cat.\u2028\u0000"},
        {"role": "nobody", "content": "?"},
    ]  # fmt: skip
    saved = one(messages)
    assert saved == one({"messages": messages})
    assert saved.settings.system == "Be brief."
    assert [kinds(message) for message in branch(saved)] == [
        [("text", "What is it?[image]")],
        [("thinking", "hm"), ("tool_call", "{}")],
        [("tool_result", "a cat")],
        [("text", "A cat.\u2028\u0000")],
    ]


def test_lines_of_json_are_conversations_each():
    first, second = (json.dumps({"messages": [{"role": "user", "content": word}]}) for word in "ab")
    lines = f"\ufeff{first}\r\n\n{second}"
    found = reading.read(lines.encode())
    assert sorted(words(saved.messages[0]) for saved in found.conversations) == ["a", "b"]


def test_lone_surrogates_become_signs_that_can_be_saved(store: Store):
    data = b'[{"role": "user", "content": "x\\ud800y"}]'
    (saved,) = reading.read(data).conversations
    assert words(saved.messages[0]) == "x\ufffdy"
    assert bring_in(store, saved, again=False).is_new


# All of them


@pytest.mark.parametrize("make", [chatgpt, openwebui, lmstudio])
def test_a_file_read_twice_is_told_and_a_grown_one_added(make, store: Store):
    first = bring_in(store, one(make()), again=False)
    assert first.is_new
    assert first.conversation.source == "import"
    assert not bring_in(store, one(make()), again=False).is_new
    grown = make() | {"title": "Another", "name": "Another"}
    assert bring_in(store, one(grown), again=False).is_new
    assert len(store.conversations.list()) == 2
    leaf = first.conversation.active_leaf
    assert store.tree.branch(first.conversation.id, leaf)[-1].id == leaf


def test_what_lacks_a_title_and_times_gets_them(store: Store):
    (saved,) = read([{"role": "user", "content": "Tell me of whales\nplease"}])
    done = bring_in(store, saved, again=False).conversation
    assert done.title == "Tell me of whales"
    assert done.created > 1_700_000_000
    assert not bring_in(store, saved, again=False).is_new


def test_an_imported_model_is_not_the_one_used_last(store: Store):
    bring_in(store, one([chatgpt()]), again=False)
    assert store.last_model() is None


def test_a_mixed_file_is_read_and_says_what_it_left_out():
    data = [chatgpt(), openwebui(), {"mapping": {}}, 7, None, {"other": "thing"}]
    found = reading.read(json.dumps(data).encode())
    assert found.format == "chatgpt, openwebui"
    assert (len(found.conversations), found.left_out) == (2, 4)
