"""The user's own nanoGPT config: what it sets, for an export that hands it back with what the study has shown."""

from __future__ import annotations

from pydantic import Field

from sweeps.study.baseline import Value
from sweeps.study.model import Model


class OwnConfig(Model):
    """A nanoGPT config as it was read."""

    file: str
    """the config, as it was named"""
    settings: dict[str, Value]
    """nanoGPT's keys that it sets, in nanoGPT's types; the study's command line changes none of them"""
    unread: dict[str, str] = Field(default_factory=dict)
    """nanoGPT's keys whose value wasn't read, with their values as written"""
    others: dict[str, str] = Field(default_factory=dict)
    """keys of a fork, which nanoGPT has not, with their values as written"""
