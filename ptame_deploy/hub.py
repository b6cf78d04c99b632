"""Whether the hub of models can be asked: its clients would try for most of a minute."""

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies


def is_out_of_reach() -> bool:
    """Whether the hub's name is not known here; behind a proxy, only the proxy knows."""
    from huggingface_hub.constants import ENDPOINT

    if getproxies():
        return False
    parts = urlsplit(ENDPOINT)
    try:
        socket.getaddrinfo(parts.hostname, parts.port or 443)
    except OSError:
        return True
    return False
