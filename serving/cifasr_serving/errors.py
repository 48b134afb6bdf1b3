"""Why the server refuses a request or ends a stream; `cifasr_serving.status` gives each its status code.

::

    ServingError              base class, never raised itself
    +-- InvalidRequestError   wrong whatever the server's state; names the field
    +-- UnknownModelError     no such model is loaded
    +-- UnknownPhraseError    no such word memory, or it knows no such phrase
    +-- ForeignMemoryError    a word memory that was taught to another model, or is damaged
    +-- MemoryFullError       a word memory, or the folder of them, holds all it may
    +-- ServerFullError       every slot is taken: come back later
    +-- SlowReaderError       the caller does not take its responses
    +-- StreamEndedError      the server ended a live stream; its final results were sent first
        +-- LimitPassedError  a duration that the server allows is over
        +-- DrainingError     the server goes away
    ServerError               a client's view: what the server, or the way to it, answered
"""

from cifasr.errors import CifasrError


class ServingError(CifasrError):
    """Base class of everything a caller of the server is told."""


class InvalidRequestError(ServingError):
    """A field of a request is not usable."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownModelError(ServingError):
    """The model that a request names is not loaded."""


class UnknownPhraseError(ServingError):
    """There is no such word memory, or it knows no such phrase."""


class ForeignMemoryError(ServingError):
    """A word memory means nothing to the model that a request names."""


class MemoryFullError(ServingError):
    """A word memory, or the folder of them, holds all it may."""


class ServerFullError(ServingError):
    """Every slot is taken."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class SlowReaderError(ServingError):
    """The caller does not take its responses."""


class StreamEndedError(ServingError):
    """The server ended a live stream on its own account."""


class LimitPassedError(StreamEndedError):
    """A duration that the server allows is over."""


class DrainingError(StreamEndedError):
    """The server goes away."""


class ServerError(CifasrError):
    """A client could not reach the server, or the server refused."""
