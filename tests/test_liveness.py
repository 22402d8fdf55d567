"""Whether a worker gets on, by a clock of the test."""

from prm_es.liveness import Liveness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_to_begin_something_is_no_progress_and_to_finish_it_is() -> None:
    clock = Clock()
    live = Liveness(clock)
    assert live.report().state == "starting"
    live.progressed("waiting")
    clock.now += 10
    live.doing("deciding")
    clock.now += 5
    report = live.report()
    assert (report.state, report.doing, report.doing_for, report.progress_ago) == ("active", "deciding", 5, 15)
    assert (report.stuck(14), report.stuck(15)) == (True, False)
    live.progressed("waiting")
    assert (live.report().doing, live.report().progress_ago) == ("waiting", 0)


def test_a_start_that_does_not_end_is_stuck() -> None:
    clock = Clock()
    live = Liveness(clock)
    clock.now += 61
    assert live.report().stuck(60)


def test_a_standby_stands_by_since_it_first_did() -> None:
    clock = Clock()
    live = Liveness(clock)
    live.standby()
    clock.now += 30
    live.standby()
    report = live.report()
    assert (report.state, report.doing_for, report.progress_ago) == ("standby", 30, 0)
    live.doing("taking over")
    live.progressed("looking")
    assert live.report().state == "active"
