"""In which order commands that depend on one another are sent."""

from collections.abc import Sequence
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from prm_es.upstream.schedule import Node, Schedule

from .ordering import by_chance, rounds

A, B, C, D = (str(UUID(int=number)) for number in range(1, 5))
ALL = 1_000


def node(subject: str, *names: str) -> Node:
    return Node(subject, tuple(f'{{"x": "{name}"}}'.encode() for name in names))


def command(id_: str, subject: str, *names: str, cause: str | None = None) -> Node:
    return node(subject, *names)._replace(name=("s", id_), cause=("s", cause) if cause else None)


def test_commands_that_name_nobody_go_together_in_their_order() -> None:
    assert rounds([node(A), node(B), node(A)]) == [[0, 1, 2]]


def test_a_command_goes_after_the_subjects_that_it_names_wherever_those_stand() -> None:
    assert rounds([node(B, A), node(A), node(C, B)]) == [[1], [0], [2]]


def test_all_commands_of_a_subject_go_when_the_one_that_waits_longest_may() -> None:
    assert rounds([node(B), node(B, A), node(A), node(B)]) == [[2], [0, 1, 3]]


def test_names_outside_the_batch_the_own_name_and_upper_case() -> None:
    assert rounds([node(A, D, A), node(B, A.upper())]) == [[0], [1]]


def test_a_circle_is_broken_at_its_first_and_who_waits_for_it_still_waits() -> None:
    assert rounds([node(D, B), node(A, C), node(B, A), node(C, B)]) == [[1], [2], [0, 3]]


def test_two_that_name_each_other_keep_the_order_of_the_batch() -> None:
    assert rounds([node(B, A), node(A, B)]) == [[0], [1]]


def test_a_command_and_what_follows_it_go_after_its_cause_what_follows_the_cause_does_not_wait() -> None:
    batch = [command("1", A), command("2", B), command("3", B, cause="1"), command("4", B), command("5", A)]
    assert rounds(batch) == [[0, 1, 4], [2, 3]]


def test_causes_back_and_forth_between_subjects_go_one_after_the_other() -> None:
    batch = [
        command("1", A),
        command("2", B, cause="1"),
        command("3", A, cause="2"),
        command("4", B, cause="3"),
        command("5", C),
    ]
    assert rounds(batch) == [[0, 4], [1], [2], [3]]


def test_who_names_a_subject_waits_for_all_of_it_whatever_the_causes() -> None:
    batch = [command("1", A), command("2", C, A), command("3", B, cause="1"), command("4", A, cause="3")]
    assert rounds(batch) == [[0], [2], [3], [1]]


def test_a_cause_in_the_own_subject_another_source_or_outside_the_batch_changes_nothing() -> None:
    other = command("3", B)._replace(cause=("another", "1"))
    assert rounds([command("1", A), command("2", A, cause="1"), other, command("4", B, cause="9")]) == [[0, 1, 2, 3]]


def test_a_circle_of_a_cause_and_a_name_is_broken_and_each_subject_keeps_its_order() -> None:
    batch = [command("1", A, B), command("2", B), command("3", B, cause="1")]
    assert rounds(batch) == [[0, 1], [2]]


def test_a_chain_goes_on_while_another_still_waits_for_its_answer() -> None:
    schedule = Schedule([node(A), node(B, A), node(C), node(D, C)])
    assert schedule.take(ALL) == [0, 2]
    schedule.answered(2)
    assert schedule.take(ALL) == [3]
    assert schedule.take(ALL) == []
    schedule.answered(0)
    assert schedule.take(ALL) == [1]
    assert schedule.left == 0


def test_no_more_are_given_than_asked_for_and_the_first_of_the_batch_go_first() -> None:
    schedule = Schedule([node(A), node(B), node(A), node(B)])
    assert [schedule.take(1) for _ in range(5)] == [[0], [1], [2], [3], []]


def test_only_answers_that_somebody_waits_for_are_awaited() -> None:
    schedule = Schedule([node(A), node(B, A), command("1", C), command("2", D, cause="1")])
    assert [schedule.awaited(place) for place in range(4)] == [True, False, True, False]


def test_nothing() -> None:
    assert Schedule([]).take(ALL) == []
    assert Schedule([]).left == 0


DRAWN = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=2), st.none() | st.integers(0, 19)), max_size=20
)


@given(DRAWN, st.integers(1, 5), st.randoms(use_true_random=False))
def test_whatever_is_answered_first_every_command_goes_once_and_each_subject_keeps_its_order(
    drawn: Sequence[tuple[int, list[int], int | None]], most: int, random: Random
) -> None:
    batch = [
        command(
            str(place),
            str(UUID(int=who)),
            *(str(UUID(int=name)) for name in names),
            cause=None if cause is None else str(cause),
        )
        for place, (who, names, cause) in enumerate(drawn)
    ]
    schedule, sent, unanswered = Schedule(batch), list[int](), list[int]()
    while schedule.left or unanswered:
        taken = schedule.take(most)
        assert len(taken) <= most
        assert taken or unanswered  # or nothing would ever go on
        sent += taken
        unanswered += taken
        while unanswered and (not taken or random.random() < 0.5):
            taken = [1]
            schedule.answered(unanswered.pop(random.randrange(len(unanswered))))
    assert sorted(sent) == list(range(len(batch)))
    for subject in {one.subject for one in batch}:
        own = [place for place in sent if batch[place].subject == subject]
        assert own == sorted(own)


@given(DRAWN, st.randoms(use_true_random=False))
def test_without_circles_nothing_is_decided_before_what_it_waits_for(
    drawn: Sequence[tuple[int, list[int], int | None]], random: Random
) -> None:
    # Nobody names or is caused by a subject of a higher number: there is no circle.
    batch = [
        command(
            str(place),
            str(UUID(int=who)),
            *(str(UUID(int=name)) for name in names if name < who),
            cause=str(cause) if cause is not None and cause < len(drawn) and drawn[cause][0] < who else None,
        )
        for place, (who, names, cause) in enumerate(drawn)
    ]
    decided = list(by_chance(batch, random))
    at = {place: number for number, place in enumerate(decided)}
    assert len(at) == len(batch)
    for place, (who, names, cause) in enumerate(drawn):
        named = [other for other, (subject, _names, _cause) in enumerate(drawn) if subject in names and subject < who]
        assert all(at[other] < at[place] for other in named)
        assert batch[place].cause is None or cause is None or at[cause] < at[place]
