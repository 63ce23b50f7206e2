"""The peers' own dependencies, in `.bench/` of the clone: Usher's environment stays as it is locked.

Promise: a peer that cannot be installed is left out with a sentence, and nothing else suffers.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

_PEERS: Final = Path(__file__).resolve().parent
FOLDER: Final = _PEERS.parent.parent / ".bench"
_PYTHON_PACKAGES: Final = ("fastapi", "faststream[rabbit]", "svix", "uvicorn[standard]")
_INSTALL_TIMEOUT_S: Final = 300


def python_packages(console: Console) -> Path | None:
    """A folder for PYTHONPATH with FastAPI, FastStream and uvicorn; None when they cannot be had."""
    target = FOLDER / "python"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target))
    return target if _installed(target, (*pip, *_PYTHON_PACKAGES), target.parent, console) else None


def node_server(console: Console) -> Path | None:
    """The fastify peer beside its modules; None without Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        console.print("Node is not installed: the fastify peer is left out.")
        return None
    home = FOLDER / "fastify"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "server.mjs"):
        shutil.copy(_PEERS / "fastify" / name, home / name)
    npm = ("npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund")
    return home / "server.mjs" if _installed(home / "node_modules", npm, home, console) else None


def _installed(result: Path, command: tuple[str, ...], home: Path, console: Console) -> bool:
    """Whether it is there: from an earlier run, else installed now."""
    complete = home / f".{result.name}-is-complete"
    if complete.exists():
        return True
    console.print(f"installing the peers' packages into {home.name}/{result.name}")
    home.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)  # noqa: S603 - fixed commands
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or b""
        console.print(f"could not install {result.name}, that peer is left out: {error}\n{said.decode()[-500:]}")
        return False
    complete.touch()
    return True
