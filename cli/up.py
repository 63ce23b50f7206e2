"""`usher up`: the whole system on embedded servers, in the foreground or detached.

One run a folder. A second one shows where the first can be reached; what a killed one left behind is ended first.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from cli import terminal
from local.child import Child
from local.env import default_folder, read_env
from local.errors import AlreadyRunningError, ServerError
from local.ledger import Ledger, locked
from local.logs import LogFollower
from local.plan import Wishes, make_plan
from local.processes import POLL_INTERVAL_S
from local.settings import inherited
from local.stack import PROGRAM, Stack

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_WATCH_INTERVAL_S = 0.2
_STOP_TIMEOUT_S = 120.0

Interrupted = Callable[[], bool]


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as everything is ready.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="INGRESS_PORT", help="Of the ingress; else 8080.")
    ] = None,
    amqp_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of RabbitMQ; else 5672.")] = None,
    management_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of RabbitMQ's management UI; else 15672.")
    ] = None,
    postgres_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of PostgreSQL; else 5432.")] = None,
    lookup_port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="LOOKUP_PORT", help="Of the lookup; else 8090.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, envvar="INGRESS_WORKERS", help="Processes of the ingress.")] = 1,
    sync_user: Annotated[int, typer.Option(min=0, help="Copies of that consumer.")] = 1,
    provision_database: Annotated[int, typer.Option(min=0, help="Copies of that consumer.")] = 1,
    xata_stand_in: Annotated[
        bool, typer.Option("--xata-stand-in", help="Databases on a stand-in for Xata instead of PostgreSQL itself.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Data, logs and secrets; else .usher of the clone.")] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Start RabbitMQ, PostgreSQL, the ingress, the consumers and the lookup, and wait until all of them are ready.

    A port that is taken is replaced by a free one. What dies is started again, and a line says so (with --detach in
    log/up.log; `usher status` counts). Ctrl-C or `usher down` stops everything; data and ports are kept.

    [bold]Examples[/bold]

        usher up
        usher up --detach --sync-user 3
        DELETION_HOLDBACK=0 usher up --port 9000
        usher up --xata-stand-in

    Exit codes: 0 stopped as asked (with --detach: everything is ready), 1 something did not start, 2 misused.
    """
    wishes = Wishes(
        folder=(folder or default_folder()).absolute(),
        ingress_port=port,
        amqp_port=amqp_port,
        management_port=management_port,
        postgres_port=postgres_port,
        lookup_port=lookup_port,
        workers=workers,
        xata_stand_in=xata_stand_in,
        copies={"sync_user": sync_user, "provision_database": provision_database},
    )
    console = terminal.out()
    try:
        wishes.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _interrupts() as interrupted:
            if detach:
                _detach(wishes, console, interrupted)
            else:
                _attend(wishes, console, interrupted, echo_logs=not supervised)
    except AlreadyRunningError:
        _show_running(wishes.folder, console)
    except PermissionError as error:
        raise ServerError(f"{error.filename}: not permitted; does {wishes.folder} belong to another user?") from error


def _attend(wishes: Wishes, console: Console, interrupted: Interrupted, *, echo_logs: bool) -> None:
    """Starts everything, watches it until somebody interrupts, stops everything."""
    steps = _Steps(console)
    with locked(wishes.folder):
        _clear_away(wishes.folder, steps)
        plan = make_plan(wishes, read_env(wishes.folder), _environment(console))
        for note in plan.notes:
            console.print(note)
        stack = Stack(plan, Ledger.begin(wishes.folder), interrupted=interrupted, say=steps.say, program=PROGRAM)
        try:
            with steps.shown():
                stack.start()
            if echo_logs:
                # A detached run writes into a log, which is no place for passwords; its starter shows them.
                _show(wishes.folder, console)
                console.print("Ctrl-C stops everything; what dies is started again.")
            _watch(stack, console, interrupted, echo_logs=echo_logs)
        finally:
            with steps.shown():
                stack.stop()
        steps.say(f"stopped; data, ports and secrets are kept in {wishes.folder}")


def _watch(stack: Stack, console: Console, interrupted: Interrupted, *, echo_logs: bool) -> None:
    """The supervision loop: echoes the children's lines, starts again what has ended and says so."""
    follower = LogFollower()
    for child in stack.children if echo_logs else []:
        follower.follow(child.name, child.log, since=child.log_start)
    colours = {child.name: _COLOURS[at % len(_COLOURS)] for at, child in enumerate(stack.children)}
    width = max((len(name) for name in colours), default=0)
    while not interrupted():
        for name, line in follower.lines():
            console.print(Text(f"{name:<{width}} │ ", colours[name]) + Text.from_ansi(line), soft_wrap=True)
        for sentence in stack.supervise():
            now = datetime.now(UTC).astimezone()
            console.print(Text(f"{now:%Y-%m-%d %H:%M:%S} {sentence}", "yellow"), soft_wrap=True)
        time.sleep(_WATCH_INTERVAL_S)


def _detach(wishes: Wishes, console: Console, interrupted: Interrupted) -> None:
    """Runs `usher up` in a session of its own and follows it until all is ready."""
    with locked(wishes.folder):
        (wishes.folder / "log").mkdir(exist_ok=True)
    steps = _Steps(console)
    supervisor = Child("up", [*PROGRAM, *_arguments(wishes)], wishes.folder / "log" / "up.log", _environment(console))
    process = supervisor.start()
    follower = LogFollower()
    follower.follow("up", supervisor.log, since=supervisor.log_start)
    with steps.shown():
        while supervisor.exit_code is None and not Ledger.load(wishes.folder).is_ready(process.pid):
            for _, line in follower.lines():
                steps.say(line)
            if interrupted():
                supervisor.terminate()
                supervisor.wait(_STOP_TIMEOUT_S)
            time.sleep(POLL_INTERVAL_S)
    if supervisor.exit_code is not None:
        raise ServerError(supervisor.obituary())
    _show(wishes.folder, console)


def _arguments(wishes: Wishes) -> list[str]:
    ports = {
        "--port": wishes.ingress_port,
        "--amqp-port": wishes.amqp_port,
        "--management-port": wishes.management_port,
        "--postgres-port": wishes.postgres_port,
        "--lookup-port": wishes.lookup_port,
    }
    given = [part for option, port in ports.items() if port for part in (option, str(port))]
    copies = [part for name, many in wishes.copies.items() for part in (f"--{name.replace('_', '-')}", str(many))]
    workers = ["--workers", str(wishes.workers)]
    stand_in = ["--xata-stand-in"] if wishes.xata_stand_in else []
    return ["up", "--supervised", "--folder", str(wishes.folder), *workers, *given, *copies, *stand_in]


def _clear_away(folder: Path, steps: "_Steps") -> None:
    """Nobody holds the folder, so whatever still runs lost its supervisor."""
    leftovers = Ledger.load(folder).stop_leftovers()
    if leftovers:
        steps.say(f"an earlier run was killed; stopped what it had left behind: {', '.join(leftovers)}")


def _environment(console: Console) -> dict[str, str]:
    environment = inherited()
    # Children write to files; they would take those for no terminal and choose JSON.
    return {"LOG_FORMAT": "pretty", **environment} if console.is_terminal else environment


def _show_running(folder: Path, console: Console) -> None:
    ledger = Ledger.load(folder)
    pid = f" (process {ledger.supervisor.pid})" if ledger.supervisor else ""
    if ledger.ready:
        console.print(f"Usher is already running{pid}; `usher down` stops it.")
        _show(folder, console)
    else:
        console.print(f"Usher is just being started or stopped{pid}: look again in a moment.")


def _show(folder: Path, console: Console) -> None:
    rows = _rows(folder, read_env(folder))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        # An address that is cut, or broken over two lines, cannot be copied.
        console.print(Text.assemble((f"{label:<{width}}  ", "bold"), value), soft_wrap=True)


def _rows(folder: Path, values: Mapping[str, str]) -> list[tuple[str, str]]:
    management = urlsplit(values["MANAGEMENT_URL"])
    command = _command()
    stand_in = [("Xata stand-in", f"{values['XATA_API_URL']}/_stand_in/")] if "XATA_API_URL" in values else []
    return [
        ("webhooks", f"{values['INGRESS_URL']}/webhooks/clerk"),
        ("management", f"http://{management.hostname}:{management.port}"),
        ("", f"login {management.username}, password {management.password}"),
        ("PostgreSQL", values["DATABASE_URL"]),
        ("lookup", f"{values['LOOKUP_URL']}/users/ID/database"),
        *stand_in,
        ("secrets, logs", f"{folder / 'env'}, {folder / 'log'}"),
        ("try next", f"{command} send user.created"),
        *(("", f"{command} {verb}") for verb in ("status", "tail", "down")),
    ]


def _command() -> str:
    """How this command can be called from here."""
    beside = Path(sys.executable).parent / "usher"
    if not beside.is_file():
        return "usher"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


@contextlib.contextmanager
def _interrupts() -> Iterator[Interrupted]:
    """Ctrl-C, SIGTERM and a closed terminal become a question to be asked; they interrupt nothing half-way."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Steps:
    """What is being done: a spinner on a terminal, a line each elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def say(self, step: str) -> None:
        # A closed terminal or pipe must not keep anything from being stopped; rich answers those with SystemExit.
        with contextlib.suppress(OSError, SystemExit):
            if self._status:
                self._status.update(step)
            else:
                self._console.print(step)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status("") as self._status:
            yield
        self._status = None
