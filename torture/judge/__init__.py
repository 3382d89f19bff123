"""The judge of histories: it imports nothing of Highwater's and knows no server, only what clients did and were told.

A history is lines of JSON, in any order. Times are nanoseconds of one clock. A session is one line of operations, each
begun after the one before has ended. Operations have `session`, `begin`, `end` and `op`:

    read    vector: what it saw of all counters at once; `strong` when all that was acknowledged to anyone must be in it
    write   counter, value: counters only grow, each has one writer; outcome `ok`, `failed` (nothing came of it) or
            `unknown`
    append  key, item; outcome as of writes
    list    key, items: what it saw of one list
    save    token: the session's token was read
    resume  token: the session goes on from what it knew when the token was read, or it was told that it is `refused`
    broken  nothing was done; for what it took and told

`told` says that the session was told of a loss before it was given the answer. A `failover` (no session) has `begin`,
`end` and `kept`: the counters as the new primary has them.

Judged are, for each session: its reads see what it wrote (read your writes) and what it has seen (monotonic reads),
unless it was told of a loss; what a write was based on is seen by whoever sees the write (writes follow reads,
monotonic writes); nobody sees what was never written, or failed; strong reads see what was acknowledged before they
began; lists only grow at their ends; nothing takes longer than it may.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]

# Of each kind so many are kept with their evidence; all are counted.
_EVIDENCE_MAX = 20


@dataclass
class Verdict:
    """What has been found."""

    violations: Counter[str] = field(default_factory=Counter)
    evidence: list[str] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    told: int = 0
    refused: int = 0
    strong_judged: int = 0
    longest_seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing forbidden was found."""
        return not self.violations

    def complain(self, kind: str, event: Event, text: str) -> None:
        """Note a violation."""
        self.violations[kind] += 1
        if self.violations[kind] <= _EVIDENCE_MAX:
            self.evidence.append(f"{kind}: session {event['session']} at {event['end'] / 1e9:.6f} s: {text}")


@dataclass
class _Session:
    """What one session must see."""

    floor: list[int]
    own: set[int] = field(default_factory=set)
    lists: dict[int, list[int]] = field(default_factory=dict)
    appended: dict[int, list[int]] = field(default_factory=dict)
    saved: dict[int, tuple[list[int], dict[int, list[int]], dict[int, list[int]]]] = field(default_factory=dict)

    def forget(self) -> None:
        """It has been told that what it wrote or saw may be lost."""
        self.floor = [0] * len(self.floor)
        self.lists, self.appended = {}, {}

    def save(self, token: int) -> None:
        """Keep what it must see, by a token."""
        appended = {key: list(items) for key, items in self.appended.items()}
        self.saved[token] = (list(self.floor), dict(self.lists), appended)

    def resume(self, token: int) -> None:
        """Go on from there."""
        floor, lists, appended = self.saved[token]
        self.floor, self.lists = list(floor), dict(lists)
        self.appended = {key: list(items) for key, items in appended.items()}


class _Court:
    """One pass over all events in the order of time."""

    def __init__(self, counters: int, failovers: list[Event], limit_seconds: float) -> None:
        self.verdict = Verdict()
        self.counters = counters
        self.failovers = failovers
        self.limit_seconds = limit_seconds
        self.sessions: dict[str, _Session] = defaultdict(lambda: _Session([0] * counters))
        # What is known to have been acknowledged to anyone, by counter.
        self.acknowledged = [0] * counters
        # What the writer of a value had to see at that time, by counter and value.
        self.bases: dict[tuple[int, int], tuple[int, ...]] = {}
        self.failed: set[tuple[int, int]] = set()
        # The reads of each list with the number of failovers before them.
        self.readings: dict[tuple[int, int], list[Event]] = defaultdict(list)

    def begin(self, event: Event) -> None:
        """An operation begins."""
        session = self.sessions[event["session"]]
        if event.get("told"):
            session.forget()
        if event["op"] == "write":
            self.bases[event["counter"], event["value"]] = tuple(session.floor)
        if event["op"] == "read" and event.get("strong"):
            event["acknowledged"] = list(self.acknowledged)

    def end(self, event: Event) -> None:
        """It ends."""
        op = event["op"]
        self.verdict.operations[op] += 1
        self.verdict.outcomes[event.get("outcome", "ok")] += 1
        self.verdict.told += bool(event.get("told"))
        seconds = (event["end"] - event["begin"]) / 1e9
        self.verdict.longest_seconds = max(self.verdict.longest_seconds, seconds)
        if seconds > self.limit_seconds:
            self.verdict.complain("hang", event, f"{op} took {seconds:.1f} s")
        session = self.sessions[event["session"]]
        if op == "save":
            session.save(event["token"])
        elif op == "resume":
            if event.get("refused"):
                # Said, and so nothing is promised of what the token stands for.
                self.verdict.refused += 1
                session.forget()
            else:
                session.resume(event["token"])
        elif op == "write":
            self._written(session, event)
        elif op == "read":
            self._read(session, event)
        elif op == "append" and event["outcome"] == "ok":
            session.appended.setdefault(event["key"], []).append(event["item"])
        elif op == "list":
            self._listed(session, event)

    def failover(self, event: Event) -> None:
        """The cluster begins to fail over, or is over with it: what the new primary lacks nobody will see again."""
        self.acknowledged = [min(pair) for pair in zip(self.acknowledged, event["kept"], strict=True)]

    def _written(self, session: _Session, event: Event) -> None:
        counter, value = event["counter"], event["value"]
        if event["outcome"] == "ok":
            session.own.add(counter)
            session.floor[counter] = max(session.floor[counter], value)
            self.acknowledged[counter] = max(self.acknowledged[counter], value)
        elif event["outcome"] == "failed":
            self.failed.add((counter, value))

    def _read(self, session: _Session, event: Event) -> None:
        vector = event["vector"]
        if vector != session.floor:
            self._compare(session, event, vector)
        if event.get("strong") and not self._in_failover(event):
            self.verdict.strong_judged += 1
            for counter, (seen, due) in enumerate(zip(vector, event["acknowledged"], strict=True)):
                if seen < due:
                    text = f"counter {counter} shows {seen}, and {due} was acknowledged before the read began"
                    self.verdict.complain("strong read of the past", event, text)
                    break
        session.floor = [max(pair) for pair in zip(session.floor, vector, strict=True)]

    def _compare(self, session: _Session, event: Event, vector: list[int]) -> None:
        changed = [counter for counter, seen in enumerate(vector) if seen != session.floor[counter]]
        for counter in changed:
            seen, due = vector[counter], session.floor[counter]
            if seen < due:
                kind = "own write not seen" if counter in session.own else "read went back"
                after = " after a failover, without a word" if self._failed_over_before(event) else ""
                self.verdict.complain(kind, event, f"counter {counter} shows {seen}, the session knew {due}{after}")
                return
            if (counter, seen) in self.failed:
                self.verdict.complain("failed write seen", event, f"counter {counter} shows {seen}")
            base = self.bases.get((counter, seen))
            if base is None:
                self.verdict.complain("never written", event, f"counter {counter} shows {seen}")
                continue
            for other, (there, needed) in enumerate(zip(vector, base, strict=True)):
                if there < needed:
                    text = f"counter {counter} shows {seen}, based on {needed} of counter {other}, which shows {there}"
                    self.verdict.complain("effect without its cause", event, text)
                    return

    def _listed(self, session: _Session, event: Event) -> None:
        key, items = event["key"], event["items"]
        known = session.lists.get(key, [])
        if items[: len(known)] != known:
            text = f"list {key} shows {items[-3:]} (of {len(items)}), the session knew {known[-3:]} (of {len(known)})"
            self.verdict.complain("list went back", event, text)
        missing = set(session.appended.get(key, [])) - set(items)
        if missing:
            self.verdict.complain("own append not seen", event, f"list {key} lacks {sorted(missing)[:3]}")
        if len(items) != len(set(items)):
            self.verdict.complain("appended twice", event, f"list {key}: {items}")
        session.lists[key] = items
        if not self._in_failover(event):
            before = sum(failover["end"] <= event["begin"] for failover in self.failovers)
            self.readings[key, before].append(event)

    def agree(self) -> None:
        """All who read a list between two failovers saw the same one, some less of it."""
        for readings in self.readings.values():
            longest = max(readings, key=lambda event: len(event["items"]))["items"]
            for event in readings:
                if event["items"] != longest[: len(event["items"])]:
                    self.verdict.complain("lists disagree", event, f"list {event['key']}: {event['items'][-3:]}")

    def _in_failover(self, event: Event) -> bool:
        return any(
            failover["begin"] <= event["end"] and event["begin"] <= failover["end"] for failover in self.failovers
        )

    def _failed_over_before(self, event: Event) -> bool:
        return any(failover["begin"] <= event["end"] for failover in self.failovers)


def judge(events: Iterable[Event], limit_seconds: float = 15.0) -> Verdict:
    """Judge a history; an operation that takes longer than the limit hangs."""
    events = list(events)
    failovers = [event for event in events if event["op"] == "failover"]
    operations = [event for event in events if "session" in event]
    counters = max((len(event["vector"]) for event in operations if event["op"] == "read"), default=0)
    counters = max([counters, *(len(event["kept"]) for event in failovers)])
    counters = max([counters, *(event["counter"] + 1 for event in operations if event["op"] == "write")])
    court = _Court(counters, failovers, limit_seconds)
    steps = [(event["begin"], 1, place, court.begin, event) for place, event in enumerate(operations)]
    steps += [(event["end"], 0, place, court.end, event) for place, event in enumerate(operations)]
    for event in failovers:
        steps += [(event[when], 2, 0, court.failover, event) for when in ("begin", "end")]
    # What ends at a time has ended before what begins at it.
    steps.sort(key=lambda step: step[:3])
    for _, _, _, step, event in steps:
        step(event)
    court.agree()
    return court.verdict


def read(paths: Iterable[Path]) -> list[Event]:
    """The events of history files; other lines than a history's are left out."""
    events = (json.loads(line) for path in paths for line in path.open())
    return [event for event in events if "op" in event]
