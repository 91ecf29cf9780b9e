"""What can be done to a conversation in the list: open, rename, pin, delete, undo."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.screens.dialogs import LineScreen
from llmchat.tui.screens.opening import Opening
from llmchat.tui.told import told
from llmchat.tui.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from llmchat.store.search import Hit


class ConversationActions(Opening):
    """Answers the sidebar, and Ctrl+N."""

    _gone: tuple[str, ...] = ()
    """Conversations that were deleted here, to be brought back."""

    @on(Sidebar.Chosen)
    def _chosen(self, event: Sidebar.Chosen) -> None:
        event.stop()
        self._open(event.id)

    @work(group="open", exclusive=True)
    @told
    async def _open(self, conversation_id: str) -> None:
        rt = await self.runtime()

        async def unless_open() -> None:
            if not self.is_open(conversation_id):
                await self.change_to(await rt.chats.get(conversation_id))

        await self.changes.whole(unless_open)
        await self.refresh_around()
        self.remove_class("-summoned")
        self.composer.focus()

    @work(group="open", exclusive=True)
    @told
    async def action_new_chat(self) -> None:
        """An empty chat with the settings of the one that was open."""
        self.fresh = self.settings
        await self.open(None)
        self.remove_class("-summoned")
        self.composer.focus()

    def action_search(self) -> None:
        """Find words in every conversation, and go there."""
        from llmchat.tui.screens.search import SearchScreen

        async def find(words: str) -> "Sequence[Hit]":
            return await (await self.runtime()).chats.search(words)

        def go(hit: "Hit | None") -> None:
            if hit is not None:
                self._go_to(hit)

        self.app.push_screen(SearchScreen(find, clock=self.clock), go)

    @work(group="open", exclusive=True)
    @told
    async def _go_to(self, hit: "Hit") -> None:
        rt = await self.runtime()
        if hit.message is not None:
            branch = await rt.chats.branch(hit.conversation)
            if hit.message not in [message.id for message in branch]:
                await rt.chats.select(hit.message)
        await self.open(await rt.chats.get(hit.conversation))
        self.remove_class("-summoned")
        if hit.message is None or not await self.transcript.focus_on(hit.message):
            self.composer.focus()

    @on(Sidebar.Asked)
    def _asked_of(self, event: Sidebar.Asked) -> None:
        event.stop()
        match event.what:
            case "undo":
                self._bring_back()
            case "rename" if event.id:
                self._rename(event.id)
            case "pin" if event.id:
                self._pin(event.id)
            case "delete" if event.id:
                self._delete_conversation(event.id)
            case _:
                pass

    @work(group="sidebar")
    @told
    async def _rename(self, conversation_id: str) -> None:
        rt = await self.runtime()
        conversation = await rt.chats.get(conversation_id)
        question = LineScreen(say("tui.rename"), clean_line(conversation.title))
        title = await self.app.push_screen_wait(question)
        if title is not None and title.strip():
            await rt.chats.rename(conversation_id, title.strip())
            await self.refresh_sidebar()

    @work(group="sidebar")
    @told
    async def _pin(self, conversation_id: str) -> None:
        rt = await self.runtime()
        conversation = await rt.chats.get(conversation_id)
        await rt.chats.pin(conversation_id, not conversation.pinned)
        await self.refresh_sidebar()

    @work(group="sidebar")
    @told
    async def _delete_conversation(self, conversation_id: str) -> None:
        rt = await self.runtime()
        conversation = await rt.chats.get(conversation_id)
        await rt.chats.delete(conversation_id)
        self._gone += (conversation_id,)
        if self.conversation is not None and self.conversation.id == conversation_id:
            await self.open(None)
        else:
            await self.refresh_sidebar()
        title = clean_line(conversation.title, 40) or say("tui.untitled")
        self.tell(say("tui.conversation_deleted", title=title))

    @work(group="sidebar")
    @told
    async def _bring_back(self) -> None:
        if not self._gone:
            self.tell(say("tui.nothing_to_undo"))
            return
        rt = await self.runtime()
        *rest, conversation_id = self._gone
        self._gone = tuple(rest)
        await rt.chats.undelete(conversation_id)
        await self.refresh_sidebar()
        self.sidebar.highlight(conversation_id)
