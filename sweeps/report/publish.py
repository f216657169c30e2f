"""Output of a study: its pictures, its report, and what optuna-dashboard shows of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from sweeps.analysis.findings import Findings
from sweeps.paths import StudyPaths
from sweeps.report.dashboard import publish_to_dashboard
from sweeps.report.figures.ablation_path import path_picture
from sweeps.report.figures.best_curve import best_curve_picture
from sweeps.report.figures.calibration import calibration_picture
from sweeps.report.figures.candidates import candidates_picture
from sweeps.report.figures.curves import curves_picture
from sweeps.report.figures.effects import effects_picture
from sweeps.report.figures.forest import forest_picture
from sweeps.report.figures.fork import fork_picture
from sweeps.report.figures.importance import importance_picture
from sweeps.report.figures.maps import map_pictures
from sweeps.report.figures.parallel import parallel_picture
from sweeps.report.figures.perplexity import perplexity_picture
from sweeps.report.figures.pruning import cost_picture
from sweeps.report.figures.races import races_picture
from sweeps.report.figures.seeds import seed_pairs, seeds_picture
from sweeps.report.figures.slices import slices_picture
from sweeps.report.figures.stopped import stopped_picture
from sweeps.report.figures.style import Picture
from sweeps.report.page import render
from sweeps.store.store import Store
from trainer.atomic import write_text


def close(findings: Findings, store: Store, paths: StudyPaths) -> Path:
    """Write the report and the dashboard's part at the end of a sweep; return the report's path.

    Raises OSError for a path that can't be written.
    """
    pictures = all_pictures(findings)  # drawn once for both, because drawing takes seconds
    write_text(paths.report, render(findings, pictures))
    today = datetime.datetime.now(tz=datetime.UTC).date()
    publish_to_dashboard(findings, store.storage, paths, pictures=pictures, today=today)
    return paths.report


def page_of(findings: Findings) -> str:
    """Return the report with all its pictures as HTML."""
    return render(findings, all_pictures(findings))


def all_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return every picture of the study, the most telling first.

    In a study of branches, the fork stands in for the loss curves of the best and the baseline.
    """
    branches = findings.study.branches
    return (
        *(branch_pictures(findings) if branches else ()),
        *confirmed_pictures(findings),
        effects_picture(findings),
        *(() if branches else (best_curve_picture(findings),)),
        candidates_picture(findings),
        curves_picture(findings.results),
        stopped_picture(findings.results),
        slices_picture(findings),
        importance_picture(findings),
        *map_pictures(findings),
        parallel_picture(findings),
        *pruning_pictures(findings),
        perplexity_picture(findings.results),
    )


def branch_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures of a study of branches alone: the fork, and the races if it has any."""
    races = (races_picture(findings.results),) if findings.study.race is not None else ()
    return fork_picture(findings), *races


def confirmed_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures of the confirmed verdict; none before the confirm phase has begun."""
    attribution = findings.attribution
    if attribution is None:
        return ()
    return (
        forest_picture(attribution),
        path_picture(attribution),
        seeds_picture(seed_pairs(findings.evidence, attribution), attribution),
    )


def pruning_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures that apply to the study's pruner; none if it prunes nothing."""
    pictures = [] if findings.study.pruner.type == "none" else [cost_picture(findings)]
    if findings.calibration is not None:
        pictures.append(calibration_picture(findings.calibration))
    return tuple(pictures)
