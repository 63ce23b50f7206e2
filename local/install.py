"""Installs what is missing of RabbitMQ, PostgreSQL and venv through apt or brew, asks nothing, starts neither server.

Run by the system's own Python (`python3 -m local.install servers`), so: standard library only.
What is installed already is left alone, and so is every service that runs already.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from local.errors import MissingServerError
from local.programs import postgres_bin, rabbitmq_server

LAST_WORDS = 15  # lines
APT_PACKAGES = {"rabbitmq": "rabbitmq-server", "postgres": "postgresql", "venv": "python3-venv"}
BREW_PACKAGES = {"rabbitmq": "rabbitmq", "postgres": "postgresql@17"}
NAMES = {"rabbitmq": "RabbitMQ", "postgres": "PostgreSQL", "venv": "Python's venv module"}

# Debian's packages start their services as they are installed: on 5672, on 5432, for the whole machine.
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = """#!/bin/sh
# Written by Usher for the time of one installation: its servers are private, the system's stay off.
case "$1" in rabbitmq-server*|postgresql*|epmd*) exit 101 ;; esac
exit 0
"""
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/usher.conf")
_NO_CLUSTER_TEXT = "create_main_cluster = false\n"


def missing(wanted: list[str]) -> list[str]:
    """Which of rabbitmq, postgres, venv are not there."""
    present: dict[str, Callable[[], bool]] = {
        "rabbitmq": lambda: _found(rabbitmq_server),
        "postgres": lambda: _found(postgres_bin),
        "venv": lambda: find_spec("ensurepip") is not None,
    }
    return [name for name in wanted if not present[name]()]


def install(wanted: list[str]) -> None:
    """Makes `wanted` present.

    Raises: MissingServerError with the choices that are left when nothing can be installed here.
    """
    absent = missing(wanted)
    if not absent:
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        _install_with_apt(absent)
    elif shutil.which("apt-get") and _may_sudo():
        _install_as_root(absent)
    elif shutil.which("brew") and not _not_in_brew(absent):
        _install_with_brew(absent)
    left = missing(wanted)
    if left:
        raise MissingServerError(advice(left))


def advice(absent: list[str]) -> str:
    """One sentence: what is missing and every way out."""
    names = " and ".join(NAMES[name] for name in absent)
    packages = " ".join(APT_PACKAGES[name] for name in absent)
    command = f"`sudo apt-get install -y {packages}`"
    if shutil.which("brew") and not _not_in_brew(absent):
        command = f"`brew install {' '.join(BREW_PACKAGES[name] for name in absent)}`"
    variables = {"rabbitmq": "RABBITMQ_SERVER=/path/to/rabbitmq-server", "postgres": "POSTGRES_BIN=/path/to/bin"}
    named = " ".join(variables[name] for name in absent if name in variables)
    naming = f", name an installation ({named})" if named else ""
    return (
        f"{names} cannot be installed from here (neither root, nor sudo without a password, nor brew): "
        f"run {command} yourself{naming}, or use Docker: `docker compose up`."
    )


def _found(find: Callable[[], Path]) -> bool:
    try:
        find()
    except MissingServerError:
        return False
    return True


def _install_with_apt(absent: list[str]) -> None:
    packages = [APT_PACKAGES[name] for name in absent]
    _say(f"installing {' '.join(packages)} with apt-get; this can take some minutes (their system services stay off)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
    epmd_before = _enabled_epmd()
    with _services_kept_off(absent):
        # The lists of a fresh machine are empty, those of an old one name packages that are gone.
        if not _run(command, environment):
            _say("refreshing the package lists with apt-get update, then once more")
            _run(["apt-get", "update", "-q"], environment)
            _run(command, environment)
    _leave_off_at_boot(absent, epmd_before, environment)


def _leave_off_at_boot(absent: list[str], epmd_before: set[str], environment: Mapping[str, str]) -> None:
    """The packages enable their services for the next start of the machine; PostgreSQL has no cluster to start."""
    if "rabbitmq" not in absent:
        return
    if shutil.which("update-rc.d"):
        _run(["update-rc.d", "rabbitmq-server", "disable"], environment)
    new = sorted(_enabled_epmd() - epmd_before)
    if new and shutil.which("systemctl"):
        _run(["systemctl", "disable", *new], environment)


def _enabled_epmd() -> set[str]:
    return {path.name for path in Path("/etc/systemd/system").glob("*.wants/epmd.*")}


@contextmanager
def _services_kept_off(absent: list[str]) -> Iterator[None]:
    """While it lasts, Debian's packages start no server and make no cluster; whatever runs goes on running."""
    texts = {_POLICY: (_POLICY_TEXT, 0o755)}
    if "postgres" in absent:
        texts[_NO_CLUSTER] = (_NO_CLUSTER_TEXT, 0o644)
    written = [path for path in texts if not path.exists()]
    made = not _NO_CLUSTER.parent.exists()
    try:
        for path in written:
            text, mode = texts[path]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
        yield
    finally:
        for path in written:
            path.unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                _NO_CLUSTER.parent.rmdir()


def _may_sudo() -> bool:
    return shutil.which("sudo") is not None and _run(["sudo", "-n", "true"], os.environ)


def _install_as_root(absent: list[str]) -> None:
    _say("not root: asking sudo, which needs no password here")
    # sudo starts with an empty environment; without these apt does not get through a proxy.
    kept = [f"{name}={value}" for name, value in os.environ.items() if name.lower().endswith("_proxy")]
    root = Path(__file__).parent.parent
    _run(
        ["sudo", "-n", "env", "-C", str(root), *kept, sys.executable, "-m", "local.install", *absent],
        os.environ,
        show=True,
    )


def _not_in_brew(absent: list[str]) -> bool:
    return any(name not in BREW_PACKAGES for name in absent)


def _install_with_brew(absent: list[str]) -> None:
    packages = [BREW_PACKAGES[name] for name in absent]
    _say(f"installing {' '.join(packages)} with brew; this can take some minutes (no service is started)")
    _run(["brew", "install", *packages], {**os.environ, "HOMEBREW_NO_AUTO_UPDATE": "1"})


def _run(command: list[str], environment: Mapping[str, str], *, show: bool = False) -> bool:
    """Whether it succeeded. Without `show` its words are kept, and the last of them told when it fails."""
    done = subprocess.run(  # noqa: S603 - fixed commands of this file
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0 and done.stdout:
        sys.stderr.write("".join(done.stdout.decode(errors="replace").splitlines(keepends=True)[-LAST_WORDS:]))
    return done.returncode == 0


def _say(text: str) -> None:
    sys.stderr.write(f"usher: {text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    wanted = ["rabbitmq", "postgres"] if arguments in ([], ["servers"]) else arguments
    try:
        install(wanted)
    except MissingServerError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
