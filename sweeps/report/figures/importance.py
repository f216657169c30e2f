"""Importances of the knobs: a point and an interval per knob, beside the line of a knob without any effect."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.importance import FANOVA_TRIALS, PED_ANOVA, PED_ANOVA_TRIALS, Importance, Importances, Share
from sweeps.report.figures.style import BLACK, BLUE, GREY, Picture, axis_name, no_picture, rows_figure
from sweeps.study.knobs import PARAM
from sweeps.text import count, joined

_AXES = {
    "fANOVA": "share of the loss's variance (fANOVA)",
    "PED-ANOVA": "share of what sets the best tenth apart (PED-ANOVA)",
}
_AXIS_NAMES = {param: axis_name(knob) for knob, param in PARAM.items()}


def importance_picture(findings: Findings) -> Picture:
    """Draw one panel per method that has enough trials."""
    key, title = "importances", "Importance of each knob over the search space"
    importances = findings.importances
    missing = why_missing(importances)
    if not importances.methods:
        return no_picture(key, title, f"Not shown: {missing}.")
    sentences = [*map(_sentence, importances.methods), _trials(importances)]
    if missing:
        sentences.append(f"{missing}.")
    return Picture(
        key=key,
        title=title,
        summary=" ".join(sentences),
        reading="fANOVA: how much of the loss's variance a knob explains by itself, anywhere in its range. PED-ANOVA: "
        "how much a knob sets the best tenth of trials apart. Neither says how much the knob improves the baseline. "
        "Points and bars: median and 90 % interval over resampled trials; each resample gives trials that were stopped "
        "early another likely loss. Dashed line: what a dummy knob of random values may get from these trials. Filled "
        "point: the whole interval is beyond that line. Open point: only the median is. Grey: not even the median.",
        figures=tuple(_figure(method) for method in importances.methods),
    )


def why_missing(importances: Importances) -> str:
    """Return why a method is missing; empty if none is."""
    if not importances.methods:
        if importances.complete >= FANOVA_TRIALS:
            return f"all {importances.trials} trials ended alike"
        return (
            f"at least {FANOVA_TRIALS} complete trials of the search are needed, and there are {importances.complete}"
        )
    if PED_ANOVA in (method.method for method in importances.methods):
        return ""
    return f"PED-ANOVA needs at least {PED_ANOVA_TRIALS} trials of the search, and there are {importances.trials}"


def _trials(importances: Importances) -> str:
    parts = [count(importances.complete, "complete trial")]
    kinds = ((importances.imputed, "stopped early"), (importances.diverged, "diverged"))
    parts += [f"{number} {kind}" for number, kind in kinds if number]
    left_out = f"; {importances.left_out} without a loss left out" if importances.left_out else ""
    measured = ""
    if importances.measured_on < importances.trials:
        measured = f" Measured on {importances.measured_on} of them, drawn at random."
    return f"Trials: {joined(parts)}{left_out}.{measured}"


def _sentence(method: Importance) -> str:
    """Return which knobs stand out by one method."""
    clear, above = ([_AXIS_NAMES.get(param, param) for param in params] for params in (method.clear, method.above))
    if clear:
        more = f"; {_stand(above)} above it, though not surely" if above else ""
        return f"By {method.method}, {_stand(clear)} clear of a knob without effect{more}."
    if above:
        return f"By {method.method}, {_stand(above)} above a knob without effect, though not surely."
    return f"By {method.method}, no knob stands above one without effect."


def _stand(names: Sequence[str]) -> str:
    return f"{joined(names)} {'stands' if len(names) == 1 else 'stand'}"


def _figure(method: Importance) -> go.Figure:
    names = [_AXIS_NAMES.get(param, param) for param in method.shares]
    figure = rows_figure(_AXES[method.method], names, showlegend=False)
    for row, (param, share) in enumerate(method.shares.items()):
        figure.add_trace(
            _interval(
                share,
                row=row,
                colour=BLUE if share.middle > method.zero_line else GREY,
                symbol="circle" if param in method.clear else "circle-open",
            )
        )
    figure.add_vline(x=method.zero_line, line={"color": BLACK, "width": 1, "dash": "dash"})
    top = max(*(share.high for share in method.shares.values()), method.zero_line)
    return figure.update_xaxes(tickformat=".0%", range=[-0.02 * top, 1.05 * top])


def _interval(share: Share, *, row: int, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[share.middle],
        y=[row],
        mode="markers",
        error_x={
            "array": [share.high - share.middle],
            "arrayminus": [share.middle - share.low],
            "color": colour,
            "thickness": 2,
            "width": 5,
        },
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
        hovertemplate=f"{share.middle:.1%} ({share.low:.1%} to {share.high:.1%})<extra></extra>",
        cliponaxis=False,
    )
