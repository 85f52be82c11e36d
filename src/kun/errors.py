"""What can go wrong, in the user's words.

Every error that a user can cause is a `KunError`. Its message is one sentence that names the thing
and the mend; its class carries the exit code of the command line and the status of the HTTP API, so
that neither decides twice.
"""

from typing import ClassVar


class KunError(Exception):
    """The base of all errors that a user can cause."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    #: the `type` of OpenAI's error body
    http_type: ClassVar[str] = "server_error"
    #: whether another process of the same training tells the user
    is_told = False


class BadInput(KunError):
    """A value that cannot be used as it is: an option out of range, an empty question, a bad name."""

    exit_code = 2
    http_status = 400
    http_type = "invalid_request_error"


class BadRecipe(BadInput):
    """A recipe with a misspelt key, a wrong type or a missing file."""


class BadRow(BadInput):
    """A row of a data set that cannot be used: its message names the file and the line."""

    exit_code = 1
    http_status = 422


class ContextOverflow(BadInput):
    """A prompt that does not fit the model's context."""

    exit_code = 1


class TooLarge(BadInput):
    """A file or request above a stated limit."""

    exit_code = 1
    http_status = 413


class UnsupportedFormat(BadInput):
    """A file or architecture of a kind that Kun does not read."""

    exit_code = 1
    http_status = 415


class HoldsNoText(BadInput):
    """A file of a kind that may hold text, a picture say, and holds none; `what` names the kind."""

    exit_code = 1
    http_status = 422

    def __init__(self, message: str, what: str = "a file without text") -> None:
        super().__init__(message)
        self.what = what


class NotFound(BadInput):
    """Something that was named is not here."""

    exit_code = 1
    http_status = 404


class ModelNotFound(NotFound):
    """A model that is neither here nor in the catalog."""


class KnowledgeBaseNotFound(NotFound):
    """A knowledge base that does not exist."""


class DamagedFile(KunError):
    """A file that is truncated, does not match its digest or cannot be parsed."""

    http_status = 422
    http_type = "invalid_request_error"


class EncoderMismatch(KunError):
    """A knowledge base whose vectors were made by another encoder."""

    http_status = 409
    http_type = "invalid_request_error"


class BaseMismatch(KunError):
    """An adapter that was trained on other weights than those it is put beside."""

    http_status = 409
    http_type = "invalid_request_error"


class NotPermitted(KunError):
    """A missing or wrong key, or a path outside the folder that it must stay in."""

    http_status = 401
    http_type = "authentication_error"


class Busy(KunError):
    """The queue is full, or another process holds the lock."""

    http_status = 429
    http_type = "rate_limit_error"


class Diverged(KunError):
    """A training whose loss is no number any more, or has grown without end."""

    http_status = 422


class ProcessLost(KunError):
    """One of the processes of a training has ended before its time."""

    http_status = 503


class NoMemory(KunError):
    """Work that needs more memory than there is."""

    http_status = 507


class NoSpace(KunError):
    """The disk is full."""

    http_status = 507


class NotWritable(KunError):
    """A folder that cannot be written: another user's, a read-only disk's, or a file that stands in its place."""


class Unavailable(KunError):
    """Something outside cannot be reached: the package index, the hub."""

    http_status = 503
