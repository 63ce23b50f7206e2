"""What can go wrong with the servers that we run ourselves, in sentences for the person at the terminal."""

from shared.errors import UsherError


class ServerError(UsherError):
    """A server did not start, did not answer or could not be stopped; the message ends with its last words."""


class MissingServerError(ServerError):
    """A server's programs are not installed; the message says what can be done about it."""


class AlreadyRunningError(ServerError):
    """Another `usher up` holds the folder."""


class InterruptedStartError(ServerError):
    """Somebody asked to stop before everything was up."""
