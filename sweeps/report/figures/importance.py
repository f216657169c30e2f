"""The importances as a picture: a point and an interval a knob, beside the line of a knob without any effect."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.importance import FANOVA_TRIALS, PED_ANOVA, PED_ANOVA_TRIALS, Importance, Importances
from sweeps.report.figures.style import BLACK, BLUE, GREY, Picture, axis_name, nothing, rows_figure
from sweeps.study.knobs import PARAM
from sweeps.text import count, joined

_AXES = {
    "fANOVA": "share of the loss's variance (fANOVA)",
    "PED-ANOVA": "share of what sets the best tenth apart (PED-ANOVA)",
}
_NAMES = {param: axis_name(knob) for knob, param in PARAM.items()}


def importance(findings: Findings) -> Picture:
    """A panel a method."""
    key, title = "importances", "Which knobs matter over the search space"
    found = findings.importances
    if not found.methods:
        return nothing(key, title, f"Not shown: {missing(found)}.")
    return Picture(
        key=key,
        title=title,
        summary=" ".join(
            [*map(_sentence, found.methods), _trials(found), *([f"{why}."] if (why := missing(found)) else [])]
        ),
        reading="fANOVA: how much of the loss's variance a knob explains by itself, anywhere in its range; PED-ANOVA: "
        "how much it sets the best tenth of trials apart. Neither is how much the knob improves the baseline. Points "
        "and bars: median and 90 % interval over trials drawn anew, those stopped early each time with another "
        "likely loss. Dashed line: what a dummy knob of random values may get from these trials. Filled: the whole "
        "interval is beyond that line; open: only the point; grey: not even that.",
        figures=tuple(_figure(method) for method in found.methods),
    )


def missing(found: Importances) -> str:
    """Why a method is missing; empty: none is."""
    if not found.methods and found.complete < FANOVA_TRIALS:
        return f"at least {FANOVA_TRIALS} complete trials of the search are needed, and there are {found.complete}"
    if not found.methods:
        return f"all {found.trials} trials ended alike"
    if PED_ANOVA in (method.method for method in found.methods):
        return ""
    return f"PED-ANOVA needs at least {PED_ANOVA_TRIALS} trials of the search, and there are {found.trials}"


def _trials(found: Importances) -> str:
    parts = [count(found.complete, "complete trial")]
    parts += [f"{n} {what}" for n, what in ((found.imputed, "stopped early"), (found.diverged, "diverged")) if n]
    left = f"; {found.left_out} without a loss left out" if found.left_out else ""
    return f"Trials: {joined(parts)}{left}."


def _sentence(method: Importance) -> str:
    """What stands out, by one method."""
    clear, above = ([_NAMES.get(param, param) for param in params] for params in (method.clear, method.above))
    if clear:
        more = f"; {_stand(above)} above it, though not surely" if above else ""
        return f"By {method.method}, {_stand(clear)} clear of a knob without effect{more}."
    if above:
        return f"By {method.method}, {_stand(above)} above a knob without effect, though not surely."
    return f"By {method.method}, no knob stands above one without effect."


def _stand(names: Sequence[str]) -> str:
    return f"{joined(names)} {'stands' if len(names) == 1 else 'stand'}"


def _figure(method: Importance) -> go.Figure:
    shares = list(method.shares.values())
    made = rows_figure(_AXES[method.method], [_NAMES.get(param, param) for param in method.shares], showlegend=False)
    for row, (param, share) in enumerate(method.shares.items()):
        colour = BLUE if share.middle > method.zero_line else GREY
        made.add_trace(
            go.Scatter(
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
                marker={
                    "color": colour,
                    "symbol": "circle" if param in method.clear else "circle-open",
                    "size": 10,
                    "line": {"width": 2, "color": colour},
                },
                hovertemplate=f"{share.middle:.1%} ({share.low:.1%} to {share.high:.1%})<extra></extra>",
                cliponaxis=False,
            )
        )
    made.add_vline(x=method.zero_line, line={"color": BLACK, "width": 1, "dash": "dash"})
    top = max(*(share.high for share in shares), method.zero_line)
    return made.update_xaxes(tickformat=".0%", range=[-0.02 * top, 1.05 * top])
