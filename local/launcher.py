"""Makes the `usher` command of a virtual environment: a path file and a two-line script, no build step.

Run by the environment's own Python (`.venv/bin/python -m local.launcher`).
"""

import shlex
import sys
import sysconfig
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def write_launcher() -> Path:
    """The command, callable from any folder. What an editable install would do, without its build backend."""
    (Path(sysconfig.get_path("purelib")) / "usher.pth").write_text(f"{_ROOT}\n", encoding="utf-8")
    script = Path(sysconfig.get_path("scripts")) / "usher"
    # A shell script: the path of a clone may be longer than a #! line may be, or hold blanks.
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli.main "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    write_launcher()
