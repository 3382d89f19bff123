"""What counts as a difference, and how the table of known ones is read."""

import json
from pathlib import Path

import pytest

from suites.known import Document, Line, judge, read
from suites.outcomes import Kind, Outcome, Results, differences

TABLES = """# Compatibility

| suite | test | why |
|---|---|---|
| django | `not.in.the.section` | above it |

## Known differences

| suite | test | why |
|---|---|---|
| django | `a.b.test_one` | because |
| django server | `a.c.*` | of another | reason |
| psycopg | `tests/test_x.py::test_y[pipeline=on]` | brackets are no pattern |

## Tests that time decides

| suite | test | why |
|---|---|---|
| django | `a.d.test_slow` | a clock |

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


def test_the_tables_are_read(tmp_path: Path) -> None:
    file = tmp_path / "compatibility.md"
    file.write_text(TABLES)
    one, other = Line("django", "a.b.test_one"), Line("django server", "a.c.*")
    assert read(file, "django", "client") == Document([one], [Line("django", "a.d.test_slow")])
    assert read(file, "django", "server").known == [one, other]
    assert read(file, "psycopg", "python").known == [Line("psycopg", "tests/test_x.py::test_y[pipeline=on]")]
    assert read(tmp_path / "nowhere.md", "django", "client") == Document([], [])


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
    assert Line("django", line).matches(test) == matches


def test_what_is_not_listed_and_what_is_listed_in_vain_is_told() -> None:
    direct, through = results(a="passed", b="passed", c="passed"), results(a="failed", b="failed", c="passed")
    found = differences(direct, through, with_text=False)
    known = [Line("x", "a"), Line("x", "c"), Line("x", "was.not.run")]
    verdict = judge(Document(known, []), found, through)
    assert [it.test for it in verdict.unlisted] == ["b"]
    assert verdict.stale == [Line("x", "c")]
    assert not verdict.is_good()
    assert judge(Document([Line("x", "*")], []), found, through).is_good()


def test_what_time_decides_may_differ_or_not() -> None:
    direct, through = results(a="passed", b="passed"), results(a="failed", b="passed")
    found = differences(direct, through, with_text=False)
    assert judge(Document([], [Line("x", "a"), Line("x", "b")]), found, through).is_good()
