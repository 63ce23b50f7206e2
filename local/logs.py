"""Follows the logs of several children: whole lines, as they appear, each with the name of who wrote it."""

from collections.abc import Iterable, Iterator
from pathlib import Path


class LogFollower:
    def __init__(self) -> None:
        self._positions: dict[Path, int] = {}
        self._names: dict[Path, str] = {}

    def follow(self, name: str, log: Path, *, since: int = 0) -> None:
        self._names[log] = name
        self._positions[log] = since

    def lines(self) -> Iterator[tuple[str, str]]:
        """What has been written since the last call; the beginning of an unfinished line waits for its end."""
        for log, name in self._names.items():
            for line in self._new_lines(log):
                yield name, line

    def _new_lines(self, log: Path) -> Iterable[str]:
        try:
            with log.open("rb") as file:
                file.seek(self._positions[log])
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._positions[log] += len(whole)
        return whole.decode(errors="replace").splitlines()
