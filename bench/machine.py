"""What was measured on: machine, versions, the code's own commit."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from bench.servers import Servers

_ROOT: Final = Path(__file__).resolve().parent.parent
_PACKAGES: Final = ("aio-pika", "aiohttp", "asyncpg", "orjson", "svix", "uvloop")
# Of all cores; starting the servers takes a little of it.
_BUSY_SHARE: Final = 0.6
_NOT_KNOWN: Final = "not known"


def rows(servers: Servers, postgres_version: str) -> list[list[str]]:
    return [
        ["machine", f"{os.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB"],
        ["system", f"{platform.system()} {platform.release()}"],
        ["load before the run", _load()],
        ["Python", f"{platform.python_version()}, {_build()}"],
        ["RabbitMQ", servers.rabbit.ctl("version").strip().splitlines()[-1]],
        ["PostgreSQL", postgres_version],
        ["Node", _said("node", "--version")],
        ["packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)],
        ["commit", _said("git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD")],
    ]


def _build() -> str:
    """Distributions build Python with profile and link time optimization; a build without is a fourth slower."""
    if sys.base_prefix == "/usr":
        return "the distribution's"
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "built with optimizations" if optimized else "**built without optimizations**, so figures are low"


def _load() -> str:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > cores * _BUSY_SHARE
    return f"{load:.1f}" + (
        ": **the machine was busy with something else**, so figures are low and noisy" if busy else ""
    )


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed commands
    return done.stdout.strip() or _NOT_KNOWN
