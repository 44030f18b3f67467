"""A graph drawn as SVG: each task in the layer below the last of those that it needs.

Within a layer a task is moved to the middle of its neighbours', up and down a few times, which
takes most crossings away. The same graph gives the same picture.

What this file must not know: what a task is, beyond its label.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from html import escape

#: (from, to, whether a value travels)
Edge = tuple[Hashable, Hashable, bool]

#: Pixels: of a character of a label, about; of the boxes; between them; and around all.
_CHAR, _PADDING, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 7, 12, 30, 24, 46, 12
#: How much of a label is shown.
_LABEL_CHARS_MAX = 40
_SWEEPS = 4

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>
"""
_EDGE = """\
<path d="M{x1},{y1} C{x1},{middle} {x2},{middle} {x2},{y2}" fill="none" stroke="#667"{dashes} \
marker-end="url(#tip)"/>
"""
_BOX = """\
<g><title>{title}</title><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" \
fill="#eef3fb" stroke="#557"/><text x="{center}" y="{base}" text-anchor="middle">{text}</text></g>
"""


def svg(labels: Mapping[Hashable, str], edges: Sequence[Edge]) -> str:
    """The picture.

    Parameters:
        labels: of each node; in an order in which no edge leads backwards.
        edges: between nodes that are there.
    """
    layers = _layers(labels, edges)
    texts = {node: _shortened(label) for node, label in labels.items()}
    widths = {node: _CHAR * len(text) + 2 * _PADDING for node, text in texts.items()}
    row_widths = [sum(widths[n] for n in row) + _GAP_X * (len(row) - 1) for row in layers]
    total = max(row_widths, default=0) + 2 * _MARGIN
    centers: dict[Hashable, tuple[int, int]] = {}
    for depth, row in enumerate(layers):
        x = (total - row_widths[depth]) // 2
        for node in row:
            centers[node] = x + widths[node] // 2, _MARGIN + depth * (_HEIGHT + _GAP_Y)
            x += widths[node] + _GAP_X
    height = 2 * _MARGIN + len(layers) * (_HEIGHT + _GAP_Y) - _GAP_Y if layers else 2 * _MARGIN
    parts = [_HEAD.format(width=total, height=height)]
    parts += [_edge(centers[start], centers[end], is_data) for start, end, is_data in edges]
    for node, (center, y) in centers.items():
        parts.append(
            _BOX.format(
                title=escape(labels[node]),
                text=escape(texts[node]),
                x=center - widths[node] // 2,
                y=y,
                width=widths[node],
                height=_HEIGHT,
                center=center,
                base=y + 20,
            )
        )
    return "".join([*parts, "</svg>\n"])


def _shortened(label: str) -> str:
    return label if len(label) <= _LABEL_CHARS_MAX else label[: _LABEL_CHARS_MAX - 1] + "…"


def _edge(start: tuple[int, int], end: tuple[int, int], is_data: bool) -> str:
    y1, y2 = start[1] + _HEIGHT, end[1]
    dashes = "" if is_data else ' stroke-dasharray="4 3"'
    return _EDGE.format(x1=start[0], y1=y1, x2=end[0], y2=y2, middle=(y1 + y2) // 2, dashes=dashes)


def _layers(labels: Mapping[Hashable, str], edges: Sequence[Edge]) -> list[list[Hashable]]:
    above: dict[Hashable, list[Hashable]] = {node: [] for node in labels}
    below: dict[Hashable, list[Hashable]] = {node: [] for node in labels}
    for start, end, _ in edges:
        above[end].append(start)
        below[start].append(end)
    depth: dict[Hashable, int] = {}
    layers: list[list[Hashable]] = []
    for node in labels:
        depth[node] = max((depth[upper] + 1 for upper in above[node]), default=0)
        while len(layers) <= depth[node]:
            layers.append([])
        layers[depth[node]].append(node)
    places = {node: place for row in layers for place, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        neighbours = below if sweep % 2 else above
        for row in reversed(layers) if sweep % 2 else layers:
            wished = {
                node: _mean([places[n] for n in neighbours[node]], places[node]) for node in row
            }
            row.sort(key=wished.__getitem__)
            for place, node in enumerate(row):
                places[node] = place
    return layers


def _mean(places: Sequence[float], default: float) -> float:
    return sum(places) / len(places) if places else default
