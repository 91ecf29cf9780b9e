"""F8 or `/compact`: the older part of the conversation summed up, with a line that says how far."""

from typing import TYPE_CHECKING

from textual import work

from llmchat.core.events import ModelLoading, PromptRead, Queued, TextAdded
from llmchat.errors import Interrupted
from llmchat.text import say
from llmchat.tui.screens.sending import Sending
from llmchat.tui.told import told

if TYPE_CHECKING:
    from llmchat.core.compacting import Compaction


class CompactingActions(Sending):
    """Starts a compaction and follows it; Esc stops it, and nothing is changed then."""

    @work(group="compact")
    @told
    async def action_compact(self) -> None:
        """Sum up the older part of the open conversation."""
        await self.changes.whole(self._compact)

    async def _compact(self) -> None:
        if self.answering or self.conversation is None:
            self.tell(say("tui.busy" if self.answering else "core.nothing_to_compact"))
            return
        rt = await self.runtime()
        self.watch_compaction(await rt.chats.compact(self.conversation.id))

    def watch_compaction(self, running: "Compaction") -> None:
        """Follow a compaction of the open conversation to its end."""
        if not self.is_open(running.conversation):
            return
        self.turn = running
        self._follow_compaction(running)

    @work(group="follow", exclusive=True)
    @told
    async def _follow_compaction(self, running: "Compaction") -> None:
        self.status.busy, self.status.state = True, say("tui.state_compacting")
        words = 0
        try:
            async for event in running.events():
                if isinstance(event, TextAdded):
                    words += len(event.text.split())
                    self.activity.tell(say("tui.compacting"), None, f"{words:,}")
                elif isinstance(event, ModelLoading):
                    self.activity.tell(say("tui.compacting"), event.fraction)
                elif isinstance(event, PromptRead) and event.total:
                    self.activity.tell(say("tui.compacting"), event.done / event.total)
                elif isinstance(event, Queued):
                    self.activity.tell(say("tui.queued", position=event.position))
        finally:
            self.activity.tell("")
            self.status.busy, self.status.state = False, say("tui.state_ready")
        self.turn = None
        self.tell_crash(running)
        if running.error is not None and not isinstance(running.error, Interrupted):
            self.complain(running.error)
        elif running.error is None and running.crash is None and self.conversation is not None:
            rt = await self.runtime()
            open_now = self.conversation.id
            await self.show_branch(await rt.chats.branch(open_now), open_now)
            self.tell(say("tui.compacted", count=len(running.older)))
        await self.after_turn()
