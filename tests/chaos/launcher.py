"""Stands for the `usher` command: the same program with a break built in, as the environment says.

CHAOS_FAILPOINT=settling:3      kill -9 at the third passage of that point
CHAOS_EFFECTS=audit             a later version, with one effect more: its queue belongs to the topology
CHAOS_MUTATION=tombstone        with one of its promises undone (tests/chaos/mutations.py)
Without either it is the program as it is. Nothing of this is in the product.
"""

import os

from cli.main import main
from shared import topology
from tests.chaos import failpoints, mutations

if __name__ == "__main__":
    if "CHAOS_MUTATION" in os.environ:
        mutations.BY_NAME[os.environ["CHAOS_MUTATION"]].undo()
    if "CHAOS_FAILPOINT" in os.environ:
        failpoints.arm(os.environ["CHAOS_FAILPOINT"])
    for effect in filter(None, os.environ.get("CHAOS_EFFECTS", "").split(",")):
        topology.EFFECTS[effect] = topology.EFFECTS["sync_user"]
    main()
