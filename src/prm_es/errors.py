"""What can go wrong. The branch is the handling policy.

PrmError
├── Conflict           another decision came first: load and decide again
├── Poison             this message can never be handled: dead letter with the reason, go on
│   ├── Unreadable     bytes that are not a CloudEvent, or not JSON
│   └── UnknownType    a message type that nothing here knows
├── Unavailable        a server is away or not as it must be: acknowledge nothing, exit, be restarted
│   ├── SchemaMismatch the database schema is older or newer than this program
│   ├── ForeignHistory a topic holds events of another store
│   ├── TooOld         an event of a type or version that this worker does not know
│   └── AlreadyRunning the role or the data folder is taken
├── Usage              the person at the command line asked for something impossible
└── api.problems.Problem  whoever asked over HTTP is told what is wrong, with a status

A refusal is not an error: it is the value `prm_es.aggregates.base.Refused`, answered and recorded.
"""


class PrmError(Exception):
    """The root of every error that prm-es raises itself."""


class Conflict(PrmError):
    """Another decision came first; load and decide again."""


class Poison(PrmError):
    """A message that can never be handled; it becomes a dead letter."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class Unreadable(Poison):
    """Bytes that are not a CloudEvent or whose data is not a JSON object."""


class UnknownType(Poison):
    """A message type that nothing here knows."""


class Unavailable(PrmError):
    """A server is away or in a wrong state; exit with code 3 and be restarted."""


class SchemaMismatch(Unavailable):
    """The database schema is older or newer than this program."""


class ForeignHistory(Unavailable):
    """A topic holds events of another store's history."""


class TooOld(Unavailable):
    """An event type or version that this worker does not know."""


class AlreadyRunning(Unavailable):
    """The single-active role or the data folder is taken by another process."""


class Usage(PrmError):
    """The request itself is wrong; exit with code 2."""
