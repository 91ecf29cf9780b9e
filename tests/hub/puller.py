"""A warm process that pulls in children, so that a hundred of them can be killed in seconds.

Each line on stdin starts one pull in a forked child; its process id, then its end (`done` or the
child's death), are lines on stdout.
"""

import os
import sys
import threading

from llmchat.core.downloads import Downloads
from llmchat.core.models import Models
from llmchat.hub import client, transfer
from llmchat.paths import find_places

WARM = (client, transfer)


def main() -> None:
    models = Models(places=find_places(), environ=os.environ)
    downloads = Downloads(places=find_places(), environ=os.environ, models=models)
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
