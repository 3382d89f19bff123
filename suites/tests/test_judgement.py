"""What counts as a difference, and how the table of known ones is read."""

import json
from pathlib import Path

import pytest

from suites.known import Known, judge, read
from suites.outcomes import Kind, Outcome, Results, differences

TABLE = """# Compatibility

| suite | test | why |
|---|---|---|
| django | `not.in.the.section` | above it |

## Known differences

| suite | test | why |
|---|---|---|
| django | `a.b.test_one` | because |
| django server | `a.c.*` | of another | reason |
| psycopg | `tests/test_x.py::test_y[pipeline=on]` | brackets are no pattern |

## Another section

| django | `not.in.the.section` | below it |
"""


def results(**kinds: str) -> Results:
    """Outcomes by test, in Python's spelling of names."""
    return Results({test: Outcome(Kind(kind), "said") for test, kind in kinds.items()})


def test_tests_differ_by_how_they_end() -> None:
    direct = results(a="passed", b="passed", c="failed", d="skipped")
    through = results(a="passed", b="errored", c="failed", e="passed")
    found = differences(direct, through, with_text=False)
    assert [(it.test, it.direct.kind, it.through.kind) for it in found] == [
        ("b", "passed", "errored"),
        ("d", "skipped", "not run"),
        ("e", "not run", "passed"),
    ]


def test_texts_count_where_asked_for() -> None:
    direct, through = Results({"a": Outcome(Kind.PASSED, "1")}), Results({"a": Outcome(Kind.PASSED, "2")})
    assert not differences(direct, through, with_text=False)
    assert len(differences(direct, through, with_text=True)) == 1


def test_a_test_is_as_bad_as_its_worst_part(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    parts = [{"test": "a", "kind": "errored", "text": "x"}, {"test": "a", "kind": "passed", "text": ""}]
    file.write_text("".join(f"{json.dumps(part)}\n" for part in parts))
    assert Results.read(file)["a"] == Outcome(Kind.ERRORED, "x")


def test_results_survive_a_file(tmp_path: Path) -> None:
    written = results(a="passed", b="failed as expected")
    written.write(tmp_path / "folder" / "results.jsonl")
    assert dict(Results.read(tmp_path / "folder" / "results.jsonl")) == dict(written)


def test_the_table_is_read(tmp_path: Path) -> None:
    document = tmp_path / "compatibility.md"
    document.write_text(TABLE)
    assert read(document) == [
        Known("django", "a.b.test_one"),
        Known("django server", "a.c.*"),
        Known("psycopg", "tests/test_x.py::test_y[pipeline=on]"),
    ]
    assert read(tmp_path / "nowhere.md") == []


@pytest.mark.parametrize(
    ("line", "test", "matches"),
    [
        ("a.c.*", "a.c.d.test", True),
        ("a.c.*", "a.cd", False),
        ("test_y[pipeline=on]", "test_y[pipeline=on]", True),
        ("test_y[*]", "test_y[x]", True),
        ("test_y[x]", "test_yx", False),
    ],
)
def test_only_a_star_is_special(line: str, test: str, matches: bool) -> None:
    assert Known("django", line).matches(test) == matches


def test_lines_concern_a_suite_or_one_of_its_variants() -> None:
    assert Known("django", "x").concerns("django", "client")
    assert Known("django client", "x").concerns("django", "client")
    assert not Known("django server", "x").concerns("django", "client")


def test_what_is_not_listed_and_what_is_listed_in_vain_is_told() -> None:
    direct, through = results(a="passed", b="passed", c="passed"), results(a="failed", b="failed", c="passed")
    found = differences(direct, through, with_text=False)
    known = [Known("x", "a"), Known("x", "c"), Known("x", "was.not.run")]
    verdict = judge(known, found, through)
    assert [it.test for it in verdict.unlisted] == ["b"]
    assert verdict.stale == [Known("x", "c")]
    assert not verdict.is_good()
    assert judge([Known("x", "*")], found, through).is_good()
