"""docs/carrying-vectors.json, which the Rust crate runs as well: both mean the same by each text, and sign it alike."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_highwater.carrying import _Signer
from django_highwater.session import Session

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "carrying-vectors.json").read_text()
)


def cases(kind: str) -> Any:
    """One test for each."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.get("why")) for case in VECTORS[kind]])


@cases("texts")
def test_texts(case: dict[str, Any]) -> None:
    session = Session(case["text"])
    for place, tokens in case["tokens"].items():
        assert session.tokens(place) == frozenset(tokens)
    for place in case["lost"]:
        wish = session.wish(place)
        assert wish
        assert wish.level == "strong"
    assert session.text() == case["again"]
    assert session.has_begun() == bool(case["again"])


@cases("joins")
def test_joins(case: dict[str, Any]) -> None:
    """As a request's header and cookies are put together; and as a session within another one is joined to it."""
    assert Session(*case["texts"]).text() == case["text"]
    session = Session()
    for text in case["texts"]:
        session.join(Session(text))
    assert session.text() == case["text"]


@cases("advances")
def test_advances(case: dict[str, Any]) -> None:
    session = Session(case["text"])
    session.advance(case["place"], case["token"], frozenset(case["included"]))
    assert session.text() == case["after"]


@cases("signatures")
def test_signatures(case: dict[str, Any], _django: None) -> None:
    with override_settings(SECRET_KEY=case["secret"]):
        assert _Signer(case["at"]).sign(case["text"]) == case["signed"]


@cases("verdicts")
def test_verdicts(case: dict[str, Any], _django: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: case["now"])
    with override_settings(SECRET_KEY=case["secret"], SECRET_KEY_FALLBACKS=case["fallbacks"]):
        text, at = _Signer.verified(case["signed"], case["max_age"])
    assert (text, at) == (case["text"] or "", case["at"] or 0)


def test_what_was_signed_as_of_no_time(_django: None) -> None:
    """Only who has the secret can make one."""
    from django.core import signing

    for at in ("", "!", "not a time"):
        signed = signing.Signer(salt="django_highwater").sign(f"default:a:{at}")
        assert _Signer.verified(signed, 300) == ("", 0)
