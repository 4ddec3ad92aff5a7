#!/usr/bin/env python3
"""The reference project on Daphne, for deploy/dev.

    site.py --settings FILE [--port N]

Takes the port, or any other where it is taken, and prints the address at once: the gateways must know it before they
start, and the project must know theirs. Becomes Daphne when FILE is there, a JSON object of environment variables.
"""

import argparse
import json
import os
import pathlib
import socket
import sys
import time


def bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        return bound(0)
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, type=pathlib.Path)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    listener = bound(options.port)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while not options.settings.exists():
        time.sleep(0.05)
    settings = json.loads(options.settings.read_text())
    listener.set_inheritable(True)
    command = ["daphne", "--fd", str(listener.fileno()), "--verbosity", "0", "reference.asgi:application"]
    os.execve(sys.executable, [sys.executable, "-m", *command], os.environ | settings)


if __name__ == "__main__":
    main()
