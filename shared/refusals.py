"""What it means when the broker closes a channel over a declaration: AMQP's code in, `TopologyError` out."""

from typing import Final

from shared.errors import TopologyError

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 406

# The broker says 404, too, for a queue that exists on a node that is away or has only just begun to start.
NODE_IS_DOWN: Final = "down or inaccessible"
# A stream is read at a node that has it; one that was killed has it again some time after it has started.
NO_REPLICA: Final = "does not have a replica"


class MayNotConfigureError(TopologyError):
    """The user has no configure rights."""


def not_seen(code: int, text: str, thing: str) -> TopologyError:
    """Why `thing` ("queue usher.log") could not be looked at."""
    if code == NOT_FOUND and NODE_IS_DOWN in text:
        return TopologyError(f"{thing} is on a node of the broker that is not up: {text}")
    if code == NOT_FOUND:
        return TopologyError(f"{thing} is missing on the broker: run `usher topology`")
    if code == ACCESS_REFUSED:
        # From 4.2.6 on the broker wants some right on what is merely looked at (configure, in 4.2.6 and 4.3.0).
        return TopologyError(f"no right to see {thing}: give this user read or write rights on it")
    return TopologyError(f"{thing}: {text}")


def not_declared(code: int, text: str, thing: str) -> TopologyError:
    """Why `thing` could not be declared as it should be."""
    if code == ACCESS_REFUSED:
        return MayNotConfigureError(f"no right to configure {thing}: use a user with configure rights")
    if code == PRECONDITION_FAILED:
        # The broker's text names the argument: "inequivalent arg 'x-…' for queue '…' …: received … but current is …".
        return TopologyError(
            f"{thing} exists with other arguments ({text}). Arguments of a queue cannot be changed: let it run empty, "
            "delete it, and run `usher topology` again",
        )
    return TopologyError(f"{thing}: {text}")
