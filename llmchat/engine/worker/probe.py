"""`python -m llmchat.engine.worker.probe`: the devices of this machine as one line of JSON."""

import sys

import msgspec

from llmchat.engine.worker.devices import find_devices


def main() -> None:
    """Print them."""
    line = msgspec.json.encode([found.device for found in find_devices()])
    sys.stdout.write(line.decode() + "\n")


if __name__ == "__main__":
    main()
