"""Every error that this package raises on purpose.

    ReceptanceError
    ├── ConfigError      a configuration names an unknown key or an impossible value
    ├── DataError        a text or token store is missing, damaged, or of another tokenizer
    ├── TokenizerError   a vocabulary that cannot be read; text or ids it cannot convert
    ├── CheckpointError  a weight file is missing, damaged, hostile, or of another model
    ├── StateError       a state file is damaged, or of another model
    ├── RequestError     a request to the server that it refuses
    ├── MemoryShortageError
    │                    a device has less memory than was asked for
    └── ImplementationUnavailableError
                         the chosen kernel cannot run these tensors here

A wrong argument of a public function is a `ValueError` or a `TypeError`; a file that cannot be
opened or written is the `OSError` of the operating system.
"""

from typing import ClassVar


class ReceptanceError(Exception):
    """Any error of this package that is not a wrong argument."""

    exit_code: ClassVar[int] = 1
    """What a command that ends with this error returns to the shell."""


class ConfigError(ReceptanceError):
    """A configuration names an unknown key or an impossible value."""

    exit_code = 3


class DataError(ReceptanceError):
    """A text, token store or data file is missing, damaged, or of another tokenizer."""

    exit_code = 3


class TokenizerError(ReceptanceError):
    """A vocabulary cannot be read, or text or ids cannot be converted by it."""

    exit_code = 3


class CheckpointError(ReceptanceError):
    """A weight file is missing, damaged, hostile, or of another model."""

    exit_code = 4


class StateError(ReceptanceError):
    """A state file is damaged, or of another model."""

    exit_code = 4


class RequestError(ReceptanceError):
    """A request to the server is refused; the client is told why, in OpenAI's form of an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Say what must be, what was, and what to do.

        Args:
            message: For the client: no path and no secret.
            status: Of HTTP.
            code: A word that a program can tell it by, such as "queue_full".
            param: The field of the request that is wrong, such as "messages[0].role".
            retry_after: Seconds after which the same request may be taken.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


class MemoryShortageError(ReceptanceError):
    """A device has less memory than was asked for; what was wanted and what to change is said."""


class ImplementationUnavailableError(ReceptanceError):
    """The chosen kernel cannot run these tensors on this machine."""
