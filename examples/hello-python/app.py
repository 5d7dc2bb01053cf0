"""The example service in Python's standard library: same paths, headers and exit codes as hello-src.

It leaves out only --worker. Needs Python 3.8 or newer.
"""

import argparse
import errno
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

VERSION = "1.0.0"
# The longest that /slow waits, so that a forgotten request ends by itself.
SLOWEST_SECONDS = 60.0
EXIT_PORT_IN_USE = 98


def header_value(name):
    """A variable of the environment, safe in a header: it must not be able to add another header."""
    text = "".join(c for c in os.environ.get(name, "") if c.isascii() and c.isprintable())
    return text.strip()[:128] or "-"


NODE = header_value("FLEET_NODE")
RELEASE = header_value("FLEET_RELEASE")


class InFlight:
    """Counts requests, so that a stop can wait for the last one."""

    def __init__(self):
        self.count = 0
        self.changed = threading.Condition()

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *_):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def wait(self, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: self.count == 0, seconds)


IN_FLIGHT = InFlight()
STOPPING = threading.Event()


class Hello(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "hello-python"
    sys_version = ""
    # Seconds that a connection may wait for its next request, or a request for its next bytes.
    timeout = 10

    def do_GET(self):
        with IN_FLIGHT:
            target = urlsplit(self.path)
            if target.path == "/healthz":
                self.answer(200, "application/json", json.dumps({"ok": True, "version": VERSION}, separators=(",", ":")))
            elif target.path == "/":
                self.answer(200, "text/plain; charset=utf-8", self.greeting())
            elif target.path == "/slow":
                self.slow(parse_qs(target.query).get("ms", [""])[0])
            else:
                self.answer(404, "text/plain; charset=utf-8", "try /, /healthz or /slow?ms=500\n")

    do_HEAD = do_GET

    def slow(self, milliseconds):
        if not (milliseconds.isascii() and milliseconds.isdigit()):
            self.answer(400, "text/plain; charset=utf-8", "say how long in milliseconds: /slow?ms=500\n")
            return
        time.sleep(min(int(milliseconds[:9]) / 1000, SLOWEST_SECONDS))
        self.answer(200, "text/plain; charset=utf-8", self.greeting())

    @staticmethod
    def greeting():
        return f"hello {VERSION} from node {NODE}, release {RELEASE}, pid {os.getpid()}\n"

    def answer(self, status, content_type, body):
        payload = body.encode()
        has_body = self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Cache-Control", "no-store")
        if has_body or STOPPING.is_set():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def end_headers(self):
        # Here and not in answer(), so that errors made by the base class carry them too.
        self.send_header("X-Version", VERSION)
        self.send_header("X-Release", RELEASE)
        self.send_header("X-Node", NODE)
        super().end_headers()

    def log_message(self, *_):
        """Says nothing per request: health checks would fill the log."""


class Server(ThreadingHTTPServer):
    """One thread per connection; idle connections must not keep the process alive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description="The example service in Python.")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT"), help="port to listen on, or PORT")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    arguments = parser.parse_args()
    if arguments.port is None or not 0 <= arguments.port <= 65535:
        parser.error("no port from 0 to 65535: give --port N or set PORT")
    try:
        server = Server((arguments.bind, arguments.port), Hello)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            print(f"hello-python {VERSION}: port {arguments.port} on {arguments.bind} is in use by another process", file=sys.stderr)
            return EXIT_PORT_IN_USE
        print(f"hello-python {VERSION}: cannot listen on {arguments.bind} port {arguments.port}: {error}", file=sys.stderr)
        return 1

    def stop(*_):
        STOPPING.set()
        # shutdown() waits for serve_forever(), which this signal has interrupted: it needs a thread of its own.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"hello-python {VERSION} listening on http://{arguments.bind}:{server.server_address[1]}", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0 if IN_FLIGHT.wait(SLOWEST_SECONDS + 5) else 1


if __name__ == "__main__":
    sys.exit(main())
