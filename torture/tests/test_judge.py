"""The judge finds what is wrong in histories, and lets pass what only looks so."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from judge import Event, Verdict, judge

TIME = count(1)


@pytest.fixture(autouse=True)
def _from_the_start() -> Iterator[None]:
    global TIME
    TIME = count(1)
    yield


def at(op: str, session: str = "s", **more: Any) -> Event:
    """An operation after all others so far."""
    return {"op": op, "session": session, "begin": next(TIME) * 1000, "end": next(TIME) * 1000, **more}


def read(vector: list[int], session: str = "s", **more: Any) -> Event:
    return at("read", session, vector=vector, **more)


def write(counter: int, value: int, session: str = "s", outcome: str = "ok", **more: Any) -> Event:
    return at("write", session, counter=counter, value=value, outcome=outcome, **more)


def append(key: int, item: int, session: str = "s", outcome: str = "ok") -> Event:
    return at("append", session, key=key, item=item, outcome=outcome)


def items(key: int, found: list[int], session: str = "s", **more: Any) -> Event:
    return at("list", session, key=key, items=found, **more)


def failover(kept: list[int]) -> Event:
    return {"op": "failover", "begin": next(TIME) * 1000, "end": next(TIME) * 1000, "kept": kept}


def kinds(events: list[Event]) -> set[str]:
    verdict: Verdict = judge(events)
    assert verdict.is_clean is not bool(verdict.violations)
    assert len(verdict.evidence) == sum(verdict.violations.values())
    return set(verdict.violations)


def test_a_session_that_does_not_see_its_own_write() -> None:
    assert kinds([write(0, 1), read([0, 0])]) == {"own write not seen"}
    assert kinds([write(0, 1), read([1, 0])]) == set()
    assert kinds([write(0, 1), read([0, 0], "other")]) == set(), "nobody else must"


def test_a_session_that_goes_back() -> None:
    wrote = write(1, 1, "writer")
    assert kinds([wrote, read([0, 1]), read([0, 0])]) == {"read went back"}
    assert kinds([wrote, read([0, 1]), read([0, 0], "other")]) == set()


def test_an_effect_without_its_cause() -> None:
    """Another session's write was based on what the reader is not shown."""
    cause = [write(0, 1, "first"), read([1, 0], "second"), write(1, 1, "second")]
    assert kinds([*cause, read([0, 1])]) == {"effect without its cause"}
    assert kinds([*cause, read([1, 1])]) == set()
    assert kinds([*cause, read([1, 0])]) == set()


def test_writes_of_one_session_out_of_order() -> None:
    both = [write(0, 1, "writer"), write(1, 1, "writer")]
    assert kinds([*both, read([0, 1])]) == {"effect without its cause"}
    assert kinds([*both, read([1, 0])]) == set()


def test_a_strong_read_of_the_past() -> None:
    assert kinds([write(0, 1, "writer"), read([0, 0], strong=True)]) == {"strong read of the past"}
    assert kinds([write(0, 1, "writer"), read([0, 0])]) == set(), "without the promise"
    wrote = write(0, 1, "writer")
    overlapping = {**read([0, 0], strong=True), "begin": wrote["begin"]}
    assert kinds([wrote, overlapping]) == set(), "the write was not acknowledged when it began"


def test_what_was_never_there() -> None:
    assert kinds([read([7, 0])]) == {"never written"}
    assert kinds([write(0, 7, "writer", "failed"), read([7, 0])]) == {"failed write seen"}


@pytest.mark.parametrize("seen", [0, 1])
def test_an_unknown_outcome_may_be_either(seen: int) -> None:
    assert kinds([write(0, 1, outcome="unknown"), read([seen, 0])]) == set()
    assert kinds([write(0, 1, "a", "unknown"), read([1, 0]), read([0, 0])]) == {"read went back"}, (
        "but only one of them"
    )


def test_a_loss_that_nobody_told() -> None:
    lost = [write(0, 1), failover([0, 0])]
    (evidence,) = judge([*lost, read([0, 0])]).evidence
    assert "after a failover, without a word" in evidence
    assert kinds([*lost, read([0, 0], told=True)]) == set()
    assert kinds([*lost, read([0, 0], told=True), write(0, 2), read([0, 0])]) == {"own write not seen"}, "told once"


def test_a_write_that_comes_before_the_word() -> None:
    """What it is based on is gone."""
    assert kinds([write(0, 1), failover([0, 0]), write(1, 1), read([0, 1], "other")]) == {"effect without its cause"}
    assert kinds([write(0, 1), failover([0, 0]), write(1, 1, told=True), read([0, 1], "other")]) == set()


def test_strong_reads_after_a_loss() -> None:
    wrote = write(0, 1, "writer")
    assert kinds([wrote, failover([0, 0]), read([0, 0], strong=True)]) == set(), "the new primary has not got it"
    wrote = write(0, 1, "writer")
    assert kinds([wrote, failover([1, 0]), read([0, 0], strong=True)]) == {"strong read of the past"}


def test_a_session_by_token() -> None:
    wrote = [write(0, 1), at("save", token=1), write(0, 2)]
    resumed = at("resume", token=1)
    assert kinds([*wrote, resumed, read([1, 0])]) == set(), "the token does not know of the second write"
    wrote = [write(0, 1), at("save", token=1)]
    resumed = at("resume", token=1)
    assert kinds([*wrote, resumed, read([0, 0])]) == {"own write not seen"}


def test_lists_that_shrink_or_change() -> None:
    grown = [append(1, 5, "a"), append(1, 6, "b"), items(1, [5, 6])]
    assert kinds([*grown, items(1, [5])]) == {"list went back"}
    assert "lists disagree" in kinds([*grown, items(1, [6, 5], "other")])
    assert kinds([*grown, items(1, [5], "other"), items(1, [5, 6], "other")]) == set()


def test_an_append_that_is_missing_or_there_twice() -> None:
    assert kinds([append(1, 5), items(1, [])]) == {"own append not seen"}
    assert kinds([append(1, 5), items(1, [5, 5])]) == {"appended twice"}
    assert kinds([append(1, 5, outcome="unknown"), items(1, [])]) == set()


def test_lists_may_differ_across_a_failover() -> None:
    before = [append(1, 5, "a"), items(1, [5], "b")]
    assert kinds([*before, failover([]), append(1, 6, "c"), items(1, [6], "d")]) == set()
    before = [append(1, 5, "a"), items(1, [5], "b")]
    assert kinds([*before, failover([]), items(1, [], "b")]) == {"list went back"}
    before = [append(1, 5, "a"), items(1, [5], "b")]
    assert kinds([*before, failover([]), items(1, [], "b", told=True)]) == set()


def test_what_takes_too_long() -> None:
    slow = {**read([0, 0]), "end": 20 * 10**9}
    assert kinds([slow]) == {"hang"}
