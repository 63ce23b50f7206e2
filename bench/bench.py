"""What every scenario is handed: servers, the load generator, and how long and how often to measure."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.generator import Generator
from bench.servers import Servers


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, how long, how much."""

    rounds: int
    seconds: float
    storm_s: float
    users: int


@dataclass(frozen=True, slots=True)
class Bench:
    servers: Servers
    load: Generator
    console: Console
    plan: Plan

    @property
    def rounds(self) -> int:
        return self.plan.rounds

    @property
    def seconds(self) -> float:
        return self.plan.seconds

    @property
    def folder(self) -> Path:
        """Where programs write their logs."""
        return self.servers.folder

    def say(self, what: str) -> None:
        self.console.print(f"[dim]{what}[/dim]", highlight=False)
