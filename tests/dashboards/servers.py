"""Small servers that play a network in all its moods."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def dead() -> Iterator[str]:
    """An address where nobody is."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # taken, but nobody listens
        yield f"http://127.0.0.1:{place.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen(64)
        yield f"http://127.0.0.1:{place.getsockname()[1]}"


@contextmanager
def answering(code: int, rest: threading.Event | None = None) -> Iterator[str]:
    """Answers with this code; with `rest` only /healthz, and everything else hangs until it is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if rest and self.path != "/healthz":
                rest.wait(60)
            with suppress(OSError):  # who has asked may have gone by now
                self.send_response(code)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
