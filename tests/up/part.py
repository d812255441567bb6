"""A small real service for the supervisor's tests: answers HTTP on a port, and does what its arguments say.

part.py NAME serve PORT [--start-s S] [--ignore-sigterm]   answers 200 with its process id
part.py NAME say TEXT                                      prints TEXT and waits
part.py NAME exit CODE                                     ends at once
"""

import http.server
import os
import signal
import sys
import time

from mdstore.cli import lifeline


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        pass


def main(name: str, what: str, value: str, *more: str) -> None:
    supervisor = lifeline.Lifeline()
    print(f"{name} is there", flush=True)
    supervisor.wait_for_go()
    if "--ignore-sigterm" in more:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--start-s" in more:
        time.sleep(float(more[more.index("--start-s") + 1]))
    if what == "exit":
        print(f"{name} cannot", flush=True)
        sys.exit(int(value))
    if what == "say":
        print(value, flush=True)
        signal.pause()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(value)), Handler)
    print(f"{name} listens", flush=True)
    server.serve_forever()


main(*sys.argv[1:])
