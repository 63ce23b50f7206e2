"""An `usher` whose up and down are real and whose other verbs are stand-ins: a log line, /readyz, an end by SIGTERM.

STAND_IN_FAILS names a process that ends with code 3 instead of becoming ready.
"""

import http.server
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import typer

from cli import down, up
from cli.main import EXIT_FAILED
from shared.errors import UsherError

setattr(up, "PROGRAM", (sys.executable, __file__))  # noqa: B010 - the real one has another type

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(up.up)
app.command()(down.down)


@app.command()
def migrate() -> None:
    _say("migrate", "migrated")


@app.command()
def topology() -> None:
    _say("topology", "declared")


@app.command()
def ingress() -> None:
    _serve("ingress", "INGRESS_INTERNAL_PORT")


@app.command()
def consumer(name: str) -> None:
    _serve(name, "CONSUMER_INTERNAL_PORT")


@app.command()
def lookup() -> None:
    _serve("lookup", "LOOKUP_INTERNAL_PORT")


def _say(name: str, line: str) -> None:
    _print(f"{name}: {line}")
    if os.environ.get("STAND_IN_FAILS") == name:
        _print(f"{name}: the reason why")
        sys.exit(3)


def _serve(name: str, port_variable: str) -> None:
    address = ("127.0.0.1", int(os.environ[port_variable]))
    server = http.server.HTTPServer(address, _Readiness)

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    _say(name, "serving")
    server.serve_forever(poll_interval=0.05)
    _print(f"{name}: stopped cleanly")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class _Readiness(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        return


if __name__ == "__main__":
    try:
        app()
    except UsherError as error:
        sys.stderr.write(f"usher: {error}\n")
        sys.exit(EXIT_FAILED)
