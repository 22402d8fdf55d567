"""Changed copies of frozen dataclasses."""

from typing import Any, TypeVar

State = TypeVar("State")


def replace(state: State, /, **changes: Any) -> State:  # noqa: ANN401
    """Do as dataclasses.replace for a class without slots and `__post_init__`; raises TypeError for an unknown field.

    The state of a lead has forty fields: initialising all of them again takes five times as long.
    """
    copy = object.__new__(type(state))
    values = copy.__dict__
    values.update(state.__dict__)
    known = len(values)
    values.update(changes)
    if len(values) != known:
        raise TypeError(f"{type(state).__name__} has no field {', '.join(changes.keys() - state.__dict__.keys())}")
    return copy
