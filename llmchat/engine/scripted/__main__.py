"""`python -m llmchat.engine.scripted`: the process of a scripted worker."""

import sys

from llmchat.engine.scripted.backend import make_backend
from llmchat.engine.shell.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv, make_backend))
