"""`python -m llmchat`: the same program as the `llmchat` command."""

import sys

from llmchat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
