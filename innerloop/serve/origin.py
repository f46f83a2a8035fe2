"""Protection against other web sites: Host check (DNS rebinding), Origin and Sec-Fetch-Site checks (cross-site).

Any web page can make its visitor's browser send requests to any address, localhost included. Only requests of our own
page are answered. Clients other than browsers send neither Origin nor Sec-Fetch-Site, and are not affected.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["HEADERS", "AllowedHosts"]

HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?\.?")
ALWAYS_ALLOWED = ("/healthz", "/readyz")  # load balancers request them under any host name; they reveal nothing

# Added to every answer. The web page has its own policy; no other answer is a page.
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}


class AllowedHosts:
    """The host names under which a server may be requested.

    bound    the address at which it listens, as --host gives it
    allowed  further names, as --allow-host gives them; "*" for any
    Numeric addresses are always accepted where it listens for other machines: DNS rebinding needs a name.
    """

    def __init__(self, bound: str = "127.0.0.1", allowed: Iterable[str] = ()) -> None:
        self.extra = {name.strip().lower().rstrip(".") for name in allowed}
        invalid = [n for n in self.extra if n != "*" and not HOST_NAME.fullmatch(n) and parse_ip(n.strip("[]")) is None]
        if invalid:
            raise InputError(
                f'--allow-host is "{printable(invalid[0], 100)}": give a name such as puzzles.example, or *'
            )
        listening = parse_ip(bound)
        self.loopback_only = bound == "localhost" or (listening is not None and listening.is_loopback)
        self.names = {"localhost", bound.lower(), *self.extra} | (
            set() if self.loopback_only else {socket.gethostname().lower()}
        )

    def refusal(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> str:
        """Why a request is refused, in a sentence; empty where it is allowed."""
        host = headers.get(b"host")
        if path in ALWAYS_ALLOWED:
            return ""
        if host is not None and not self.is_known(host):
            shown = printable(host.decode("latin-1"), 100)
            return f'"{shown}" is not a host name of this server: start it with --allow-host to add that name'
        if self.is_cross_site(method, host or b"", headers):
            return (
                "this request comes from a page of another site: open the server's own address, "
                "or use a client other than a browser"
            )
        return ""

    def is_known(self, host: bytes) -> bool:
        """Whether that is a host name of this server; the port is ignored."""
        if "*" in self.extra:
            return True
        name = host_name(host)
        if name in self.names:
            return True
        address = parse_ip(name)
        return address is not None and (address.is_loopback or not self.loopback_only)

    def is_cross_site(self, method: str, host: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the headers say that a page of another site sent this."""
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            is_navigation = (
                headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
            )
            is_link = is_navigation and method in ("GET", "HEAD")  # a link to this server, opened as a page
            return site not in (b"same-origin", b"none") and not is_link
        origin = headers.get(b"origin")
        if origin is None:
            return False
        scheme, separator, host_part = origin.lower().partition(b"://")
        if not separator or scheme not in (b"http", b"https"):
            return True  # "null" is a local file or a sandboxed page
        return host_part != host.lower() and host_name(host_part) not in self.extra


def host_name(host: bytes) -> str:
    """The name in HOST, HOST:PORT or [ADDRESS]:PORT, in lower case."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rsplit(":", 1)[0].rstrip(".") if text.count(":") == 1 else text.rstrip(".")


def parse_ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A numeric IP address; None for a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
