"""Formatting of numbers, settings and lists, shared by the terminal, the verdict, the figures and the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from trainer.config import TrainConfig

_WHERE = {"seed", "device", "dtype", "compile", "log_interval", "always_save_checkpoint", "init_from", "origin"}
_JUDGED = {"eval_interval", "eval_iters", "eval_windows", "final_windows", "eval_only"}
NOT_TRAINED = frozenset(_WHERE | _JUDGED)
"""settings of where a run trains and how it is evaluated; they don't change what is trained"""
_NAMES = {
    "min_lr": "final learning rate",
    "warmup_iters": "warm-up",
    "n_embd": "width",
    "n_layer": "depth",
    "grad_clip": "gradient clipping",
    "data_fraction": "amount of data",
}


def named(knob: str) -> str:
    """Return a knob's everyday name: learning rate, width."""
    return _NAMES.get(knob, knob.replace("_", " "))


def short(value: float | int | str | bool | None) -> str:
    """Format a setting's value with four digits: 0.001, 6e-4, 384, True; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool | int | str):
        return str(value)
    if value and math.isfinite(value) and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def signed(nats: float) -> str:
    """Format an effect in nats with its sign and a real minus: +0.012, −0.350."""
    return f"{nats:+.3f}".replace("-", "−")


def joined(parts: Iterable[str]) -> str:
    """Join as "a", "a and b", "a, b and c"."""
    *most, last = [*parts] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def count(n: int, noun: str) -> str:
    """Format a count: 1 run, 2 runs."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def all_of(n: int, noun: str) -> str:
    """Format all of several: both changes, all 3 changes."""
    return f"both {noun}s" if n == 2 else f"all {n} {noun}s"


def duration(seconds: float) -> str:
    """Format seconds: 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float) -> str:
    """Format a share or probability: 0.4 %, 37.0 %, below 0.1 %."""
    return "below 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def trial_title(number: int, label: str) -> str:
    """Return a trial's number and label, "trial 3 (dropout 0)"; the number alone where the label repeats it."""
    title = f"trial {number}"
    return title if label == title else f"{title} ({label})"


def advised(label: str) -> str:
    """Return a candidate's label without its prefix `candidate: `."""
    return label.removeprefix("candidate: ")


def change(knob: str, config: TrainConfig, baseline: TrainConfig | None) -> str:
    """Format one knob's change: "dropout 0 → 0.3", or "dropout 0.3" without a baseline."""
    new = config.as_dict()[knob]
    return (
        f"{knob} {rounded(new)}" if baseline is None else f"{knob} {' → '.join(from_to(baseline.as_dict()[knob], new))}"
    )


def changes(config: TrainConfig, baseline: TrainConfig) -> Mapping[str, str]:
    """Return the settings of `config` that differ from the baseline's, as name → "old → new", without NOT_TRAINED."""
    old, new = baseline.as_dict(), config.as_dict()
    return {
        name: f"{short(old[name])} → {short(value)}"
        for name, value in new.items()
        if name not in NOT_TRAINED and value != old[name]
    }


def si(number: float, unit: str = "") -> str:
    """Format with three digits and an SI prefix: 39.3M, 58.3 TFLOP/s."""
    space = " " if unit else ""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 1000 * size:
            return f"{number / size:,.0f}{space}{prefix}{unit}"
        if number >= size:
            return f"{number / size:.3g}{space}{prefix}{unit}"
    return f"{number:.3g}{space}{unit}"


def percent_whole(share: float) -> str:
    """Format a share in whole per cent (31 %), below 10 % with one decimal (3.1 %)."""
    return f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f} %"


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss in nats, exp(loss); infinite from 700 nats on, where exp would overflow."""
    return math.exp(loss) if loss < 700 else math.inf


def rounded(value: float | int | str | bool | None) -> str:
    """Format a setting as short as its meaning allows: 0.003 for 0.003021, 0.996 for 0.99613, 1e-4, 384.

    A number of at most three digits was written by a person and stays. Others come from a sampler or a schedule and
    get two digits; near 1, as in beta2, they are two digits of the distance to 1.
    """
    if not isinstance(value, float):
        return short(value)
    if float(f"{value:.3g}") == value:
        return short(value)
    if 0.9 < value < 1:
        return short(1 - float(f"{1 - value:.2g}"))
    return short(float(f"{value:.2g}"))


def from_to(old: float | int | str | bool | None, new: float | int | str | bool | None) -> tuple[str, str]:
    """Return two settings as `rounded` has them, or with more digits where these would look the same."""
    before, after = rounded(old), rounded(new)
    return (short(old), short(new)) if before == after and old != new else (before, after)


def decimals(half_width: float | None) -> int:
    """Return the decimals, 2 to 4, that an estimate carries: one digit of its interval's half, two of a leading 1.

    Half of 0.038 gives 2, of 0.0023 gives 4. An interval that isn't known gives 2, and none that is certain 4.
    """
    if half_width is None:
        return 2
    if half_width < 1e-4:
        return 4
    exponent = math.floor(math.log10(half_width))
    leading = half_width / 10**exponent
    return min(4, max(2, (1 if leading < 1.95 else 0) - exponent))


def nats(value: float, digits: int, *, sign: bool = False) -> str:
    """Format nats with so many decimals and a real minus: 0.11, +0.11, −0.02; never −0.00."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return (f"{0.0:.{digits}f}" if float(text) == 0 else text).replace("-", "−")


def p_value(p: float) -> str:
    """Format a p-value to follow the letter: = 0.037, < 0.001."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def cut(text: str, width: int) -> str:
    """Return a text, cut to `width` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


_ASCII = str.maketrans(
    {
        "→": "->",
        "−": "-",
        "–": "-",
        "±": "+/-",
        "×": "x",
        "│": "|",
        "┼": "+",
        "─": "-",
        "●": "o",
        "“": '"',
        "”": '"',
        "·": "|",
        "∙": ".",
        "○": "*",
        "┊": ":",
        "└": "+",
        "↑": "^",
        "↓": "v",
    }
)


def encodable(text: str, encoding: str) -> str:
    """Return the text as it is, or in ASCII for an encoding that lacks one of its characters."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode("ascii", "replace").decode()
    return text
