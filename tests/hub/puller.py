"""A warm process that pulls in children, so that a hundred of them can be killed in seconds.

Each line on stdin starts one pull in a forked child; its process id, then its end (`done` or the
child's death), are lines on stdout. Words like `connections=4` change the hub's configuration.
"""

import json
import os
import sys
import threading
from dataclasses import replace

from llmchat.core.downloads import Downloads
from llmchat.core.models import Models
from llmchat.hub import client, transfer
from llmchat.hub.config import find_config
from llmchat.paths import find_places

WARM = (client, transfer)


def main() -> None:
    models = Models(places=find_places(), environ=os.environ)
    changes = {
        name: json.loads(value) for name, _, value in (w.partition("=") for w in sys.argv[1:])
    }
    config = replace(find_config(os.environ), **changes)
    downloads = Downloads(places=find_places(), environ=os.environ, models=models, config=config)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            plan = downloads.plan(line.strip())
            downloads.pull(plan, lambda _: None, threading.Event())
            os._exit(0)
        tell(str(child))
        _, status = os.waitpid(child, 0)
        tell("done" if status == 0 else f"died {os.waitstatus_to_exitcode(status)}")


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
