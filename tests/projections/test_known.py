"""What is known of many customers, made by another process: the same as made here, whatever becomes of that process."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from prm_es.aggregates.fields import Customer, TaxId
from prm_es.projections import known
from prm_es.projections.known import MANY, Told, known_of, known_of_each
from tests.workers import until


def told(seed: str) -> list[list[Told]]:
    """Give parts of customers, more than one makes alone, an individual and nobody among them."""
    token = f"~1.{'0' * 32}.{'A' * 8}"
    person = Customer(name=token, tax_ids=(TaxId(country="BR", kind="cpf", value=token, individual=True),))
    one: list[Told] = [
        (Customer(name=f"Lojas {seed} {place} Ltda", city="Pelotas", country="BR"), (f"id:{place}",))
        for place in range(MANY)
    ]
    return [one[:100], [*one[100:], (person, ()), (None, ("id:x",)), one[0]]]


def alone(parts: list[list[Told]]) -> list[known.Known]:
    return [known._made(*one) for part in parts for one in part]


@pytest.fixture(autouse=True)
def helper() -> subprocess.Popen[bytes]:
    known_of.cache_clear()
    return known._helper()


def test_it_is_the_same_as_made_here() -> None:
    parts = told("same")
    assert [one for made in known_of_each(parts) for one in made] == alone(parts)
    few = [told("few")[1][-3:]]
    assert [one for made in known_of_each(few) for one in made] == alone(few)


def test_if_the_other_process_is_killed_the_rest_is_made_here_and_the_next_by_another(
    helper: subprocess.Popen[bytes],
) -> None:
    parts = told("killed") * 40
    made = known_of_each(parts)
    found = list(next(made))
    helper.send_signal(signal.SIGKILL)
    found += [one for part in made for one in part]
    assert found == alone(parts)
    again = told("after")
    assert [one for part in known_of_each(again) for one in part] == alone(again)
    assert known._helper().pid != helper.pid


def test_answers_that_nobody_waited_for_are_taken_for_no_other_question() -> None:
    with closing(known_of_each(told("left") * 40)) as made:
        next(made)
    parts = told("next")
    assert [one for part in known_of_each(parts) for one in part] == alone(parts)


def test_it_ends_with_the_process_that_began_it() -> None:
    program = (
        "import os, signal; from prm_es.projections import known;"
        "print(known._helper().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not psutil.pid_exists(int(done.stdout)), "the end of the other process")
