"""What a command opens: a study file, or the results of a study that has begun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings
    from sweeps.store.locate import Located
    from sweeps.store.records import Results
    from sweeps.study.study import Study


def load_study(
    study: str,
    profile: str | None,
    overrides: list[str] | None,
    data: str | None,
    baseline: str | None,
    *,
    start: str | None = None,
    log: str | None = None,
    candidates: list[str] | None = None,
    for_a_card: bool = False,
) -> Study:
    from sweeps.study.load import check_card, load
    from trainer.machine.device import cuda_devices

    loaded = load(
        study,
        profile=profile,
        overrides=overrides or (),
        data=data,
        baseline=baseline,
        start=start,
        log=log,
        candidates=candidates or (),
        devices_have_cuda=for_a_card or cuda_devices() > 0,
    )
    if not for_a_card:
        check_card(loaded, study, profile=profile, cards=cuda_devices())
    return loaded


def results_of(study: str, out: Path | None, *, sampled_curves: bool = True) -> tuple[Located, Results]:
    from sweeps.store.locate import read

    located, results = read(study, out=out, sampled_curves=sampled_curves)
    for text in results.damaged:
        print(f"warning: {text}", file=sys.stderr)
    return located, results


def findings_of(study: str, out: Path | None, *, sampled_curves: bool = True) -> tuple[Located, Findings]:
    from sweeps.analysis.findings import Findings

    located, results = results_of(study, out, sampled_curves=sampled_curves)
    return located, Findings(results)
