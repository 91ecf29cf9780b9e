"""llmchat: chat with local models in the terminal.

Imports nothing, so that `llmchat --version` costs no more than starting Python.
"""

__version__ = "0.1.0"
