"""What every adapter here has in common: settings from the environment, one line of JSON for what happened."""

import json
import os
import socket
import sys


def setting(name: str) -> str:
    """A setting that must be there."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set")
    return value


def tell(line: dict) -> None:
    """Says something to the test, as a line of its own."""
    print(json.dumps(line), flush=True)


def calls() -> range:
    """How many calls to make, one after another."""
    return range(int(os.environ.get("X402_CALLS", "1")))


def receipt(headers) -> str | None:
    """The receipt of a call, in either version of the protocol."""
    return headers.get("PAYMENT-RESPONSE") or headers.get("X-PAYMENT-RESPONSE")


def free_port() -> socket.socket:
    """A socket that listens on a free port of loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener
