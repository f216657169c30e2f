"""The folder of a peer's trial: its config before training, its weights after."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.config import TrainConfig
from trainer.errors import UserError

CONFIG = "config.json"
CHECKPOINT = "ckpt.pt"


def write_config(config: TrainConfig, folder: Path) -> None:
    """Make a trial's folder, and write its config there."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config.as_dict()), encoding="utf-8")


def config_in(folder: Path) -> TrainConfig:
    """Read a trial's config. Raises UserError if its folder has none."""
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(f"{folder} holds no {CONFIG}")
    return TrainConfig.from_mapping(json.loads(file.read_text(encoding="utf-8")))
