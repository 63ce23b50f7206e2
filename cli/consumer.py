"""`usher consumer`: run one effect on its queue."""

import asyncio
from typing import Annotated

import typer

from cli.settings import EnvFile


def consumer(
    name: Annotated[str, typer.Argument(help="sync_user or provision_database", metavar="EFFECT")],
    internal_host: Annotated[str | None, typer.Option(help="address of /livez, /readyz and /metrics")] = None,
    internal_port: Annotated[int | None, typer.Option(help="port of /livez, /readyz and /metrics; 0: any free")] = None,
    concurrency: Annotated[int | None, typer.Option(help="events at work on at once")] = None,
    env_file: EnvFile = None,
) -> None:
    """Run one effect on its queue. Start as many copies as you like; they share the work.

    Settings come from the environment and --env-file (see .env.example); options win. SIGTERM stops cleanly: no more
    events are taken, those under way are finished within STOP_TIMEOUT, the rest goes back to the queue.

    [bold]Examples[/bold]

      usher consumer sync_user

      usher consumer sync_user --env-file .env

      usher consumer provision_database --concurrency 4 --internal-port 9082

    Exit codes: 0 stopped as asked, 1 failed, 2 a setting is missing or wrong.
    """
    import uvloop

    from consumer import app
    from consumer.settings import ConsumerSettings
    from shared import log

    if name not in app.EFFECTS:
        raise typer.BadParameter(f"{name!r} is no effect: write {' or '.join(app.EFFECTS)}")
    settings = ConsumerSettings.read(
        consumer_internal_host=internal_host,
        consumer_internal_port=internal_port,
        consumer_concurrency=concurrency,
        _env_file=env_file,
    )
    log.configure(level=settings.log_level, style=settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(app.run(name, settings))
