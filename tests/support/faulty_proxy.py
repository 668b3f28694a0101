"""A proxy before an HTTP server that does what bad networks and tired servers do."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultyProxy:
    """Passes requests on to `host`:`port` as `mode` says; `requests` are the methods and paths that came.

    pass: as they are; 500: none, it answers with an error; cut: half of the answer's body; flip: a byte of the body is
    another; hang: no answer before `release` is set.
    """

    def __init__(self, host: str, port: int) -> None:
        self.mode = "pass"
        self.num_failures = 0  # requests that are answered with an error, before `mode` counts
        self.release = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, host, port))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _handler(proxy: FaultyProxy, host: str, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.requests.append((self.command, self.path))
            mode = proxy.mode
            if proxy.num_failures:
                proxy.num_failures -= 1
                mode = "500"
            if mode == "hang":
                proxy.release.wait(60)
            if mode == "500":
                self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            behind = http.client.HTTPConnection(host, port, timeout=30)
            try:
                behind.request(self.command, self.path, headers=dict(self.headers.items()))
                answer = behind.getresponse()
                body = answer.read()
            finally:
                behind.close()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(key, value)
            self.end_headers()
            if mode == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            if mode == "flip" and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
