"""Optuna's storage in SQLite, written to at every evaluation in one statement instead of several objects.

What Optuna's own methods do, at a fifth of their time: the parent of a sweep answers its workers meanwhile. Whatever is
out of the ordinary, such as a trial that has ended, is left to them, and so are their errors.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from optuna import distributions
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

_OF_TRIAL = "FROM trials WHERE trial_id = :trial AND state IN ('RUNNING', 'WAITING')"
_VALUE = sa.text(
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    f"SELECT :trial, :step, :value, :type {_OF_TRIAL} "  # no value is in it
    "ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value, "
    "intermediate_value_type = excluded.intermediate_value_type"
)
_ATTRS = {
    table: sa.text(
        f"INSERT INTO {table} (trial_id, key, value_json) SELECT :trial, :key, :value {_OF_TRIAL} "
        "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
    )
    for table in ("trial_user_attributes", "trial_system_attributes")
}
_PARAM = sa.text(
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
    f"SELECT :trial, :name, :value, :distribution {_OF_TRIAL} ON CONFLICT DO NOTHING"
)
_WAITING = sa.text("SELECT EXISTS (SELECT 1 FROM trials WHERE study_id = :study AND state = 'WAITING')")


class Storage(RDBStorage):
    """RDBStorage for SQLite."""

    def waits(self, study_id: int) -> bool:
        """Whether the study has a trial that was put there and not begun."""
        with self.engine.connect() as connection:
            return bool(connection.scalar(_WAITING, {"study": study_id}))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        value, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(intermediate_value)
        given = {"step": step, "value": value, "type": kind.name}
        if not self._written(_VALUE, trial_id, given):
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self._written(_ATTRS["trial_user_attributes"], trial_id, {"key": key, "value": json.dumps(value)}):
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self._written(_ATTRS["trial_system_attributes"], trial_id, {"key": key, "value": json.dumps(value)}):
            super().set_trial_system_attr(trial_id, key, value)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """`previous_distribution`: another trial's of this parameter, by Optuna's cache; None: it has none at hand."""
        if previous_distribution is not None:
            distributions.check_distribution_compatibility(previous_distribution, distribution)
            written = distributions.distribution_to_json(distribution)
            given = {"name": param_name, "value": param_value_internal, "distribution": written}
            if self._written(_PARAM, trial_id, given):
                return
        super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)

    def _written(self, statement: sa.TextClause, trial_id: int, given: dict[str, Any]) -> bool:
        """False: there is no such trial, or it has ended."""
        with self.engine.begin() as connection:
            return connection.execute(statement, {"trial": trial_id, **given}).rowcount > 0
