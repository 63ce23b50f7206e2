"""`usher ingress`: take webhooks and store them in the broker."""

from typing import Annotated

import typer

from cli.settings import EnvFile


def ingress(
    *,
    host: Annotated[str | None, typer.Option(help="address for webhooks (INGRESS_HOST)")] = None,
    port: Annotated[int | None, typer.Option(help="port for webhooks; 0: any free (INGRESS_PORT)")] = None,
    internal_host: Annotated[str | None, typer.Option(help="address of /livez, /readyz and /metrics")] = None,
    internal_port: Annotated[int | None, typer.Option(help="port of /livez, /readyz and /metrics; 0: any free")] = None,
    workers: Annotated[int | None, typer.Option(help="processes that share the port (INGRESS_WORKERS)")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="publishes at once; more get 503 (MAX_IN_FLIGHT)")] = None,
    stop_timeout: Annotated[str | None, typer.Option(help="how long a stop may take, e.g. 10s (STOP_TIMEOUT)")] = None,
    env_file: EnvFile = None,
) -> None:
    """Take webhooks at /webhooks/clerk, verify them, and store them in the broker before answering 202.

    Settings come from the environment and --env-file (see .env.example); options win. The broker may be down at the
    start: webhooks are answered 503 and /readyz says why until it is there. SIGTERM stops cleanly: what is in flight is
    finished.

    [bold]Examples[/bold]

      usher ingress

      usher ingress --env-file .env

      usher ingress --host 0.0.0.0 --port 80 --workers 4

      CLERK_WEBHOOK_SIGNING_SECRET=whsec_… AMQP_URL=amqp://… usher ingress --port 0

    Exit codes: 0 stopped as asked, 1 the broker has the topology otherwise, 2 a setting is missing or wrong.
    """
    from ingress import app
    from ingress.settings import IngressSettings

    app.main(
        IngressSettings.read(
            ingress_host=host,
            ingress_port=port,
            ingress_internal_host=internal_host,
            ingress_internal_port=internal_port,
            ingress_workers=workers,
            max_in_flight=max_in_flight,
            stop_timeout=stop_timeout,
            _env_file=env_file,
        ),
    )
