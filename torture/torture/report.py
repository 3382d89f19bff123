"""The report of a run: what was done, what was found, and a picture of it over time."""

import html
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT, _LEFT = 1200, 160, 220
_COLOURS = ("#1b6ca8", "#c0392b", "#27835a")


Event = dict[str, Any]
# Where on the page, and how much; `None` if that is not known.
Point = tuple[float, float | None]
Facts = dict[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui; max-width: 1260px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
td { padding: .15em 1.5em .15em 0; border-bottom: 1px solid #ddd }
pre { white-space: pre-wrap }
text { font: 11px system-ui }
"""


@dataclass(frozen=True)
class Sample:
    """How things were at one time."""

    at: int
    reads: int
    lag_bytes: dict[str, int | None]


def write(path: Path, facts: dict[str, Any], judgement: str, events: list[Event], samples: list[Sample]) -> None:
    """Write it as one HTML file."""
    faults = Counter(event["fault"] for event in events if "fault" in event)
    rows = "".join(f"<tr><td>{html.escape(str(name))}<td>{html.escape(str(it))}" for name, it in facts.items())
    kinds = "".join(f"<tr><td>{name}<td>{count}" for name, count in faults.most_common())
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>Histories from a real cluster</title><style>{_STYLE}</style>"
        f"<h1>Histories from a real cluster</h1><table>{rows}</table>"
        f"<h2>Judgement</h2><pre>{html.escape(judgement)}</pre>"
        f"<h2>Over time</h2>{_picture(events, samples)}<h2>Faults</h2><table>{kinds}</table>"
    )


def _picture(events: list[Event], samples: list[Sample]) -> str:
    if len(samples) < 2:
        return "<p>too short for a picture</p>"
    begin, end = samples[0].at, samples[-1].at

    def x(at: int) -> float:
        return _LEFT + (at - begin) / (end - begin) * (_WIDTH - _LEFT)

    pairs = list(zip(samples, samples[1:], strict=False))
    rates: list[Point] = [(x(now.at), (now.reads - then.reads) / ((now.at - then.at) / 1e9)) for then, now in pairs]
    panels = [_panel("reads per second", [("reads", rates)])]
    names = sorted({name for sample in samples for name in sample.lag_bytes})
    lags = []
    for name in names:
        known = [(x(sample.at), sample.lag_bytes.get(name)) for sample in samples]
        lags.append((name, [(at, None if value is None else value / 1024) for at, value in known]))
    panels.append(_panel("lag, KiB of log", lags))
    return "".join(panels) + _faults(events, x)


def _panel(title: str, lines: list[tuple[str, list[Point]]]) -> str:
    highest = max((value or 0 for _, points in lines for _, value in points), default=0) or 1
    parts = [f'<text x="0" y="12">{title}</text><text x="0" y="28">up to {highest:,.0f}</text>']
    for (name, points), colour in zip(lines, _COLOURS, strict=False):
        place = _LEFT + 120 + 110 * _COLOURS.index(colour)
        for is_known, stretch in groupby(points, key=lambda point: point[1] is not None):
            if is_known:
                at_height = ((at, _HEIGHT - 4 - (value or 0) / highest * (_HEIGHT - 40)) for at, value in stretch)
                path = " ".join(f"{at:.1f},{height:.1f}" for at, height in at_height)
                parts.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
        parts.append(f'<text x="{place}" y="12" fill="{colour}">{name}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%">{"".join(parts)}</svg>'


def _faults(events: list[Event], x: Any) -> str:
    kinds = sorted({event["fault"] for event in events if "fault" in event})
    parts = []
    for row, kind in enumerate(kinds):
        parts.append(f'<text x="0" y="{16 * row + 11}">{kind.replace("_", " ")}</text>')
        for event in (event for event in events if event.get("fault") == kind):
            left = x(event["begin"])
            width = max(2.0, x(event["end"]) - left)
            bar = f'x="{left:.1f}" y="{16 * row + 2}" width="{width:.1f}" height="11" fill="#c0392b" fill-opacity=".45"'
            parts.append(f"<rect {bar}/>")
    return f'<svg viewBox="0 0 {_WIDTH} {16 * len(kinds) + 4}" width="100%">{"".join(parts)}</svg>'
