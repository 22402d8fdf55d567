"""In which order commands that depend on one another are sent."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from prm_es.upstream.levels import Node, levels

A, B, C, D = (str(UUID(int=number)) for number in range(1, 5))


def node(subject: str, *names: str) -> Node:
    return Node(subject, tuple(f'{{"x": "{name}"}}'.encode() for name in names))


def test_commands_that_name_nobody_go_together_in_their_order() -> None:
    assert levels([node(A), node(B), node(A)]) == [[0, 1, 2]]


def test_a_command_goes_after_the_subjects_that_it_names_wherever_those_stand() -> None:
    assert levels([node(B, A), node(A), node(C, B)]) == [[1], [0], [2]]


def test_all_commands_of_a_subject_share_the_level_of_the_one_that_waits_longest() -> None:
    assert levels([node(B), node(B, A), node(A), node(B)]) == [[2], [0, 1, 3]]


def test_names_outside_the_batch_the_own_name_and_upper_case() -> None:
    assert levels([node(A, D, A), node(B, A.upper())]) == [[0], [1]]


def test_a_circle_is_broken_at_its_first_and_who_waits_for_it_still_waits() -> None:
    assert levels([node(D, B), node(A, C), node(B, A), node(C, B)]) == [[1], [2], [0, 3]]


def test_two_that_name_each_other_keep_the_order_of_the_batch() -> None:
    assert levels([node(B, A), node(A, B)]) == [[0], [1]]


def command(id_: str, subject: str, *names: str, cause: str | None = None) -> Node:
    return node(subject, *names)._replace(name=("s", id_), cause=("s", cause) if cause else None)


def test_a_command_goes_after_its_cause_and_what_follows_it_in_its_subject_goes_later_still() -> None:
    batch = [command("1", A), command("2", B), command("3", B, cause="1"), command("4", B), command("5", A)]
    assert levels(batch) == [[0, 1], [2, 3, 4]]


def test_causes_back_and_forth_between_subjects_go_one_after_the_other() -> None:
    batch = [
        command("1", A),
        command("2", B, cause="1"),
        command("3", A, cause="2"),
        command("4", B, cause="3"),
        command("5", C),
    ]
    assert levels(batch) == [[0, 4], [1], [2], [3]]


def test_who_names_a_subject_waits_for_all_of_it_whatever_the_causes() -> None:
    batch = [command("1", A), command("2", C, A), command("3", B, cause="1"), command("4", A, cause="3")]
    assert levels(batch) == [[0], [2], [3], [1]]


def test_a_cause_in_the_own_subject_another_source_or_outside_the_batch_changes_nothing() -> None:
    other = command("3", B)._replace(cause=("another", "1"))
    assert levels([command("1", A), command("2", A, cause="1"), other, command("4", B, cause="9")]) == [[0, 1, 2, 3]]


def test_a_circle_of_a_cause_and_a_name_is_broken_and_each_subject_keeps_its_order() -> None:
    batch = [command("1", A, B), command("2", B), command("3", B, cause="1")]
    assert levels(batch) == [[0, 1], [2]]


def test_nothing() -> None:
    assert levels([]) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 6), max_size=3)), max_size=20))
def test_every_command_goes_once_and_each_subject_in_one_level_in_order(drawn: list[tuple[int, list[int]]]) -> None:
    commands = [node(str(UUID(int=subject)), *(str(UUID(int=name)) for name in names)) for subject, names in drawn]
    found = levels(commands)
    assert sorted(place for level in found for place in level) == list(range(len(commands)))
    assert all(level == sorted(level) and level for level in found)
    for subject in {command.subject for command in commands}:
        assert sum(any(commands[place].subject == subject for place in level) for level in found) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.integers(0, 4), max_size=1), st.none() | st.integers(0, 19)),
        max_size=20,
    )
)
def test_every_command_goes_once_and_each_subject_keeps_its_order(
    drawn: list[tuple[int, list[int], int | None]],
) -> None:
    batch = []
    for place, (who, names, cause) in enumerate(drawn):
        others = (str(UUID(int=name)) for name in names)
        batch.append(command(str(place), str(UUID(int=who)), *others, cause=None if cause is None else str(cause)))
    found = levels(batch)
    sent = [place for level in found for place in level]
    assert sorted(sent) == list(range(len(batch)))
    for subject in {one.subject for one in batch}:
        own = [place for place in sent if batch[place].subject == subject]
        assert own == sorted(own)
