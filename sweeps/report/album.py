"""Pictures of a study: the one that leads the report, and the others in groups by what they are about."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.analysis.findings import Findings
from sweeps.report.figures.ablation_path import path_picture
from sweeps.report.figures.best_curve import best_curve_picture
from sweeps.report.figures.calibration import calibration_picture
from sweeps.report.figures.candidates import candidates_picture
from sweeps.report.figures.curves import curves_picture
from sweeps.report.figures.effects import effects_picture
from sweeps.report.figures.forest import forest_picture
from sweeps.report.figures.fork import fork_picture, origin_picture
from sweeps.report.figures.head_to_head import head_to_head_picture
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


@dataclass(frozen=True)
class Group:
    """Pictures about one question."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Album:
    """All pictures of a study."""

    lead: Picture
    """the baseline and the best: the fork, or both configs' curves"""
    groups: tuple[Group, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, the most telling first."""
        return (self.lead, *(picture for group in self.groups for picture in group.pictures))


def album_of(findings: Findings) -> Album:
    """Draw every picture of the study; groups without one are left out."""
    branches = findings.study.branches
    groups = (
        Group("Each knob on fresh seeds", confirmed_pictures(findings)),
        Group("Loss curves", curve_pictures(findings)),
        Group("What the search tried", search_pictures(findings)),
        Group("What stopping early saved and cost", pruning_pictures(findings)),
    )
    return Album(
        lead=fork_picture(findings) if branches else head_to_head_picture(findings),
        groups=tuple(group for group in groups if group.pictures),
    )


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


def curve_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures of loss curves: the origin's and the races' in a study of branches, and every run's."""
    results, study = findings.results, findings.study
    return (
        *((origin_picture(findings),) if study.branches else (best_curve_picture(findings),)),
        *((races_picture(findings),) if study.race is not None else ()),
        curves_picture(results),
        stopped_picture(results),
        perplexity_picture(results),
    )


def search_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures of the search's trials."""
    return (
        effects_picture(findings),
        candidates_picture(findings),
        slices_picture(findings),
        importance_picture(findings),
        *map_pictures(findings),
        parallel_picture(findings),
    )


def pruning_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Return the pictures that apply to the study's pruner; none if it prunes nothing."""
    pictures = [] if findings.study.pruner.type == "none" else [cost_picture(findings)]
    if findings.calibration is not None:
        pictures.append(calibration_picture(findings.calibration))
    return tuple(pictures)
