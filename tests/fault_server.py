"""An HTTP server on 127.0.0.1 that misbehaves as it is told, and keeps a log of what it sent.

    with FaultServer({"/gzip.zip": data}) as server:
        server.faults["/gzip.zip"] = [unavailable(), cut(1000)]  # the first request, the second; later ones are served well
        server.always["/gzip.zip"] = no_ranges()                 # every request for which no fault is queued
        ...
        server.sent("/gzip.zip")                                 # bytes of bodies that left for this path
"""

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zlib import crc32

PIECE = 4096  # bytes that are sent at a time
PAGE = b"<!DOCTYPE html><html><title>We have moved</title><body>Please update your bookmarks.</body></html>"


@dataclass
class Exchange:
    """One request and what was answered."""

    path: str
    range: "str | None"
    status: int
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Serves the files of its `FaultServer`, whole or by range, unless a fault is due."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave apart; without this each answer waits 40 ms for an ACK

    def do_GET(self) -> None:
        owner = self.server.owner
        with owner.guard:
            queue = owner.faults.get(self.path, [])
            act = queue.pop(0) if queue else owner.always.get(self.path, Handler.serve)
        try: act(self)
        except ConnectionError: self.close_connection = True  # the client has seen enough

    def log_message(self, *args) -> None:
        """Say nothing: the log is `FaultServer.log`."""

    def start(self, status: int, headers: dict) -> Exchange:
        """Send the status line and headers, and open an entry in the log."""
        exchange = Exchange(self.path, self.headers.get("Range"), status)
        self.server.owner.log.append(exchange)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        return exchange

    def wanted(self, size: int, etag: str) -> "tuple[int, int] | None":
        """First and last byte that the client asks for; None: all of them."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found or self.headers.get("If-Range", etag) != etag: return None
        first, last = found.groups()
        if not first: return max(0, size - int(last)), size - 1
        return int(first), min(int(last or size), size - 1)

    def serve(self, body: "bytes | None" = None, ranges: bool = True, stop: "int | None" = None,
              stall: "int | None" = None, length: "int | None" = None, kind: str = "application/octet-stream",
              chunked: bool = False, at_most: int = 1 << 40, pause: float = 0) -> None:
        """Answer with the file, or with `body`, and with the faults that the arguments name."""
        if body is None: body = self.server.owner.files.get(self.path)
        if body is None:
            self.start(404, {"Content-Length": 0})
            return
        etag = f'"{crc32(body):08x}"'
        part = self.wanted(len(body), etag) if ranges else None
        headers = {"Content-Type": kind, "ETag": etag}
        if part and part[0] >= len(body):
            self.start(416, {"Content-Length": 0, "Content-Range": f"bytes */{len(body)}"})
            return
        if part:
            first, last = part[0], min(part[1], part[0] + at_most - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
        if chunked: headers["Transfer-Encoding"] = "chunked"
        else: headers["Content-Length"] = len(body) if length is None else length
        exchange = self.start(206 if part else 200, headers)
        end = min(x for x in (len(body), stop, stall) if x is not None)
        for at in range(0, end, PIECE):
            piece = body[at : min(at + PIECE, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            exchange.sent += len(piece)
            if pause: self.server.owner.closing.wait(pause)
        if chunked and end == len(body): self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if stall is not None: self.server.owner.closing.wait(10)
        self.close_connection = self.close_connection or end < len(body) or length is not None or stall is not None

    def answer(self, status: int, headers: dict) -> None:
        """A status without a body."""
        self.start(status, {"Content-Length": 0, **headers})

    def hang(self) -> None:
        """Take the request and never answer."""
        self.server.owner.log.append(Exchange(self.path, self.headers.get("Range"), 0))
        self.server.owner.closing.wait(10)
        self.close_connection = True


Fault = Callable[[Handler], None]


def cut(after: int, **more) -> Fault:
    """Promise everything, close after so many bytes."""
    return partial(Handler.serve, stop=after, **more)


def stall(after: int) -> Fault:
    """Promise everything, fall silent after so many bytes."""
    return partial(Handler.serve, stall=after)


def hang() -> Fault:
    """Take the request and never answer."""
    return Handler.hang


def html(kind: str = "text/html; charset=utf-8", size: "int | None" = None) -> Fault:
    """A web page in place of the archive, 200 OK; with a `size`, padded to it."""
    return partial(Handler.serve, body=PAGE.ljust(size or 0), kind=kind, ranges=size is not None)


def wrong_bytes(body: bytes, count: int = 8) -> Fault:
    """The right size, a few bytes in the middle changed."""
    changed, middle = bytearray(body), len(body) // 2
    for at in range(middle, middle + count):
        changed[at] ^= 255
    return partial(Handler.serve, body=bytes(changed))


def no_ranges(**more) -> Fault:
    """The whole file with 200 OK, whatever range was asked for."""
    return partial(Handler.serve, ranges=False, **more)


def lie(length: int, **more) -> Fault:
    """Another Content-Length than the body has."""
    return partial(Handler.serve, length=length, **more)


def unavailable(status: int = 503) -> Fault:
    """503 Service Unavailable, with a Retry-After that nobody wants to wait for."""
    return partial(Handler.answer, status=status, headers={"Retry-After": "3600"})


def redirect(to: str, status: int = 302) -> Fault:
    """To another address."""
    return partial(Handler.answer, status=status, headers={"Location": to})


class Threads(ThreadingHTTPServer):
    """A thread a connection; a client that hangs up is no error."""

    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """Print the traceback, unless the connection is just gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError): super().handle_error(request, client_address)


class FaultServer:
    """A threaded server for the length of a `with` block; `files` maps paths to bytes."""

    def __init__(self, files: "dict[str, bytes]"):
        self.files, self.log = dict(files), []
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.guard, self.closing = threading.Lock(), threading.Event()

    def __enter__(self) -> "FaultServer":
        self.http = Threads(("127.0.0.1", 0), Handler)
        self.http.owner = self
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def url(self, path: str) -> str:
        """The address of a path on this server."""
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def sent(self, path: "str | None" = None) -> int:
        """Bytes of bodies that were sent, for one path or for all."""
        return sum(exchange.sent for exchange in self.log if path in (None, exchange.path))
