"""Grouped bars as SVG, by hand: a picture that any browser shows, from the same figures as the table."""

from collections.abc import Iterator
from html import escape
from typing import Final

from bench.results import Plot

_COLOURS: Final = ("#c2410c", "#f59e0b", "#2563eb", "#16a34a", "#7c3aed", "#64748b", "#94a3b8")
_WIDTH: Final = 900
_LEFT, _TOP, _BOTTOM = 70, 40, 40
_HEIGHT: Final = 300
_LEGEND_LINE: Final = 20
_LINES: Final = 4
_FONT: Final = 'font-family="sans-serif" font-size="13"'


def svg(plot: Plot) -> str:
    """The whole document."""
    height = _TOP + _HEIGHT + _BOTTOM + _LEGEND_LINE * len(plot.series)
    most = max((value for values in plot.values for value in values), default=0.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="16" font-weight="bold">{escape(plot.title)}</text>',
        *_scale(most),
        *_bars(plot, most),
        *_legend(plot),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _scale(most: float) -> Iterator[str]:
    for line in range(_LINES + 1):
        y = _TOP + _HEIGHT - _HEIGHT * line / _LINES
        yield f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e2e8f0"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{most * line / _LINES:,.0f}</text>'


def _bars(plot: Plot, most: float) -> Iterator[str]:
    group_width = (_WIDTH - _LEFT) / len(plot.groups)
    width = group_width * 0.85 / len(plot.series)
    for at, group in enumerate(plot.groups):
        left = _LEFT + group_width * at
        middle = left + group_width * 0.425
        yield f'<text x="{middle:.0f}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">{escape(group)}</text>'
        for number, values in enumerate(plot.values):
            height = _HEIGHT * values[at] / most
            colour = _COLOURS[number % len(_COLOURS)]
            yield (
                f'<rect x="{left + width * number:.1f}" y="{_TOP + _HEIGHT - height:.1f}" width="{width * 0.9:.1f}" '
                f'height="{height:.1f}" fill="{colour}"><title>{values[at]:,.1f}</title></rect>'
            )


def _legend(plot: Plot) -> Iterator[str]:
    for number, name in enumerate(plot.series):
        y = _TOP + _HEIGHT + _BOTTOM + _LEGEND_LINE * number
        yield f'<rect x="{_LEFT}" y="{y - 5}" width="12" height="12" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
        yield f'<text x="{_LEFT + 20}" y="{y + 6}">{escape(name)}</text>'
