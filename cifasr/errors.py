"""Everything cifasr raises on purpose, so that a caller can catch one class.

::

    CifasrError                  one line for a person, exit code 2 on the command line
    +-- ConfigError              a key, a value or a file of configuration
    +-- AudioError               audio that cannot be read or has the wrong form
    +-- DataError                a corpus, a manifest or a cut
    +-- CheckpointError          a file that is not a checkpoint of ours, or does not fit
    +-- BackendUnavailableError  an implementation asked for by name that cannot run here
    +-- StateError               a call in the wrong order
"""


class CifasrError(Exception):
    """Base class: the message names what to change, the value got and the value wanted."""


class ConfigError(CifasrError):
    """A configuration key or value is not usable."""


class AudioError(CifasrError):
    """Audio could not be read, or has another form than the one promised."""


class DataError(CifasrError):
    """A corpus or a manifest is not what it should be."""


class CheckpointError(CifasrError):
    """A file is not a cifasr checkpoint, or not one for this model."""


class BackendUnavailableError(CifasrError):
    """A backend was named and cannot run here."""


class StateError(CifasrError):
    """A call came in the wrong order, such as audio after the end of the input."""
