"""A worker that does what a script says, over the real socket: every face is tested with it.

`LLMCHAT_ENGINE=scripted[:SCRIPT]` makes the engine start these; docs/engine.md has the words.
"""
