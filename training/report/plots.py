"""Plots as SVG for a page: colours are the page's, so that light and dark need no second picture.

One panel a picture: the page's grid puts panels side by side or below each other. Legends are
HTML, so that names of a user's data never pass through matplotlib's layout.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.metrics import Floats, shown
from training.report.history import Curve, smoothed, thinned

Json = Mapping[str, Any]

# matplotlib wants colours; the page wants variables. These stand for them until it is written.
INK, MUTED, LINE, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{number:02x}" for number in range(12))
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "lanistr",
    "text.parse_math": False,  # a name with dollars is a name
    "font.size": 8.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.5,
    "axes.formatter.useoffset": False,
}


class Panel:
    """One picture being drawn.

    Used as a context: inside it draw on `ax`, after it `svg` is the finished picture.
    """

    def __init__(self, name: str, alt: str, *, x: str = "", y: str = "", height: float = 2.9):
        self._name, self._alt, self._labels, self._height = name, alt, (x, y), height
        self.svg = ""

    def __enter__(self) -> Axes:
        self._style = rc_context(_STYLE)
        self._style.__enter__()
        self._figure = Figure(figsize=(3.6, self._height), layout="constrained")
        self.ax = self._figure.subplots()
        self.ax.set_xlabel(self._labels[0])
        self.ax.set_ylabel(self._labels[1])
        return self.ax

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.svg = _inline(self._figure, self._name, self._alt)
        finally:
            self._style.__exit__(None, None, None)


def curves_panel(kind: str, curves: Sequence[Json], share: float | None) -> str:
    """Draw ROC or PR curves; `share` of positive cases is the chance level of PR."""
    roc = kind == "roc"
    said = "; ".join(f"{c['name']}: area {c['area']:.3f}" for c in curves)
    panel = Panel(
        kind,
        f"{'ROC' if roc else 'Precision-recall'} curve. {said}",
        x="false-positive rate (1 - specificity)" if roc else "recall (sensitivity)",
        y="true-positive rate (sensitivity)" if roc else "precision (PPV)",
        height=3.3,
    )
    with panel as ax:
        if roc:
            ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        elif share is not None:
            ax.axhline(share, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for number, curve in enumerate(curves):
            if band := curve.get("band"):
                low, high = (np.array(band[k], dtype=np.float64) for k in ("low", "high"))
                ax.fill_between(band["x"], low, high, color=SERIES[0], alpha=0.18, linewidth=0)
            drawstyle = "default" if roc else "steps-pre"
            width = 1.8 if number == 0 else 1.0
            ax.plot(
                curve["x"], curve["y"], color=SERIES[number % 12], lw=width, drawstyle=drawstyle
            )
        _unit_square(ax)
    return panel.svg


def reliability_panel(when: str, found: Json) -> str:
    """Draw how often came true what was given each probability."""
    bins = [each for each in found["bins"] if each["cases"]]
    panel = Panel(
        f"reliability-{when}",
        f"Reliability {when} temperature scaling; on the diagonal if calibrated. "
        + "; ".join(
            f"probability {b['mean']:.2f}: came true {b['observed']:.2f} of {b['cases']}"
            for b in bins
        ),
        y="share that came true",
        x="probability",
        height=3.3,
    )
    colour = SERIES[0] if when == "after" else SERIES[1]
    with panel as ax:
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        mean, seen = ([b[key] for b in bins] for key in ("mean", "observed"))
        for b in bins:
            ax.plot([b["mean"]] * 2, b["interval"], color=colour, alpha=0.45, linewidth=1.2)
        ax.plot(mean, seen, color=colour, marker="o", markersize=4.5, linewidth=1.2)
        _unit_square(ax)
    return panel.svg


def histogram_panel(name: str, bins: Sequence[Json], x: str) -> str:
    """Draw how many cases lie in each bin."""
    said = ", ".join(f"{b['from']:.1f} to {b['to']:.1f}: {b['cases']}" for b in bins if b["cases"])
    panel = Panel(name, f"Number of cases by probability. {said}", x=x, y="cases", height=3.3)
    with panel as ax:
        width = bins[0]["to"] - bins[0]["from"]
        centres = [(b["from"] + b["to"]) / 2 for b in bins]
        ax.bar(centres, [b["cases"] for b in bins], width=width * 0.92, color=SERIES[0], alpha=0.75)
        ax.set_xlim(0, 1)
        ax.grid(visible=False, axis="x")
    return panel.svg


def expected_panel(expected: Json, values: Sequence[float]) -> str:
    """Draw, for each true class, how the expected values of its cases spread."""
    panel = Panel(
        "expected",
        "Expected value by true class. "
        + "; ".join(f"{n}: mean {e['mean']:.2f}" for n, e in expected.items() if e["cases"]),
        x="true value",
        y="expected value",
        height=3.3,
    )
    with panel as ax:
        ends = [min(values), max(values)]
        ax.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        width = min(b - a for a, b in pairwise(values)) * 0.5
        for value, found in zip(values, expected.values(), strict=True):
            if found["cases"]:
                low, first, middle, third, high = found["quantiles"].values()
                ax.plot([value] * 2, [low, high], color=SERIES[0], linewidth=1.2)
                ax.bar(value, third - first, width, bottom=first, color=SERIES[0], alpha=0.35, lw=0)
                ax.plot([value - width / 2, value + width / 2], [middle] * 2, color=SERIES[0])
                ax.plot(value, found["mean"], "o", color=SERIES[1], markersize=4.5)
        ax.set_xticks(list(values))
        margin = (ends[1] - ends[0]) * 0.1
        ax.set_xlim(ends[0] - margin, ends[1] + margin)
        ax.set_ylim(ends[0] - margin, ends[1] + margin)
    return panel.svg


def scatter_panel(predicted: Floats, true: Floats, unit: str) -> str:
    """Draw predicted against true numbers."""
    suffix = f" ({unit})" if unit else ""
    panel = Panel(
        "scatter",
        f"Predicted against true value of {len(true)} cases; on the diagonal if correct.",
        x=f"true{suffix}",
        y=f"predicted{suffix}",
        height=3.3,
    )
    with panel as ax:
        both = np.concatenate([predicted, true])
        ends = [both.min(), both.max()]
        ax.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        ax.plot(true, predicted, "o", color=SERIES[0], markersize=3, alpha=0.4, markeredgewidth=0)
    return panel.svg


def residuals_panel(predicted: Floats, residuals: Floats, unit: str) -> str:
    """Draw errors against predicted numbers."""
    suffix = f" ({unit})" if unit else ""
    panel = Panel(
        "residuals",
        f"Predicted minus true against predicted value of {len(residuals)} cases.",
        x=f"predicted{suffix}",
        y=f"predicted - true{suffix}",
        height=3.3,
    )
    with panel as ax:
        ax.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        ax.plot(
            predicted, residuals, "o", color=SERIES[0], markersize=3, alpha=0.4, markeredgewidth=0
        )
    return panel.svg


def error_histogram_panel(residuals: Floats, unit: str) -> str:
    """Draw how the errors spread."""
    suffix = f" ({unit})" if unit else ""
    residuals = residuals.astype(np.float64)
    counts, edges = np.histogram(residuals, bins=min(30, max(5, len(residuals) // 5)))
    panel = Panel(
        "errors",
        f"Histogram of predicted minus true: from {residuals.min():.3g} to {residuals.max():.3g}, "
        f"mean {residuals.mean():.3g}",
        x=f"predicted - true{suffix}",
        y="cases",
        height=3.3,
    )
    with panel as ax:
        ax.bar(
            (edges[:-1] + edges[1:]) / 2, counts, np.diff(edges) * 0.92, color=SERIES[0], alpha=0.75
        )
        ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        ax.grid(visible=False, axis="x")
    return panel.svg


def loss_panel(key: str, name: str, curve: Curve) -> str:
    """Draw a loss by step, as it was and smoothed."""
    x, y = smoothed(curve)
    panel = Panel(
        f"{key}-{name}",
        f"Loss {name} over {len(curve[0])} steps, smoothed: {y[0]:.4g} at first, {y[-1]:.4g} last.",
        x="step",
        height=2.5,
    )
    with panel as ax:
        ax.plot(*thinned(curve), color=SERIES[0], linewidth=0.7, alpha=0.35)
        ax.plot(x, y, color=SERIES[0])
    return panel.svg


def rate_panel(key: str, curve: Curve) -> str:
    """Draw the learning rate by step."""
    panel = Panel(
        f"{key}-lr",
        f"Learning rate by step, {curve[1].max():.3g} at most.",
        x="step",
        height=2.5,
    )
    with panel as ax:
        ax.plot(*thinned(curve), color=SERIES[2])
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    return panel.svg


def validation_panel(key: str, name: str, curve: Curve, best: float | None) -> str:
    """Draw a figure on the validation split by epoch, the epoch that was kept marked."""
    epochs, values = curve
    kept = "" if best is None else f" Epoch {best} was kept."
    panel = Panel(
        f"{key}-validation-{name}",
        f"Validation {name} over {len(epochs)} epochs: {values[0]:.4g} at first, "
        f"{values[-1]:.4g} last.{kept}",
        x="epoch",
        height=2.5,
    )
    with panel as ax:
        ax.plot(epochs, values, color=SERIES[0], marker="o", markersize=3)
        if best is not None:
            at = values[epochs == best][0]
            ax.axvline(best, color=SERIES[1], linewidth=0.8, linestyle=(0, (4, 3)))
            ax.plot(best, at, "o", color=SERIES[1], markersize=6)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return panel.svg


def seeds_panel(
    name: str, by_row: Mapping[str, Sequence[float]], figure: str, marked: str | None
) -> str:
    """Draw each row's figures, one a seed, and their mean; the mean of one row for all to see."""
    means = {row: float(np.mean(values)) for row, values in by_row.items()}
    said = "; ".join(f"{row} {shown(mean)}" for row, mean in means.items())
    panel = Panel(name, f"{figure} by row: {said}", x=figure, height=0.8 + 0.24 * len(by_row))
    with panel as ax:
        if marked in means:
            ax.axvline(means[marked], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for at, (row, values) in enumerate(by_row.items()):
            ax.plot(values, [at] * len(values), "o", color=SERIES[0], markersize=3, alpha=0.6)
            ax.plot(means[row], at, "|", color=INK, markersize=11, markeredgewidth=1.6)
        ax.set_yticks(range(len(by_row)), list(by_row))
        ax.set_ylim(len(by_row) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
    return panel.svg


def standalone(svg: str) -> str:
    """Return a picture of a page as a file of its own."""
    opening, rest = svg.split(">", 1)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    style += "svg.plot { font-family: system-ui, sans-serif; }"
    return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{escape(style)}</style>{rest}\n'


def _unit_square(ax: Axes) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_yticks(np.linspace(0, 1, 6))


# ---- from matplotlib's file to a part of a page -------------------------------------------------


def _inline(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as one SVG element whose ids no other on the page has."""
    file = io.StringIO()
    with warnings.catch_warnings():
        # The page's font draws the text; that matplotlib's own lacks a letter does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    opening = re.search(r'<svg[^>]*viewBox="([^"]+)"[^>]*>', text)
    assert opening, "matplotlib writes one svg element"
    body = text[opening.end() :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r" font-family: [^;\"]*;?", "", body)
    body = re.sub(r' (d|x|y)="[^"]*"', lambda found: _rounded(found[0]), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return (
        f'<svg class="plot" viewBox="{opening[1]}" role="img" aria-label="{escape(alt)}">'
        + _own_ids(body.replace("xlink:href", "href"), name)
    )


def _rounded(attribute: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute)


def _own_ids(body: str, name: str) -> str:
    """Keep the ids that something refers to, under the name of the picture."""
    own = re.sub(r"\W+", "-", name)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda f: f' id="{own}-{f[1]}"' if f[1] in used else "", body)
    return re.sub(r'(href="#|url\(#)', rf"\1{own}-", body)
