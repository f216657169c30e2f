"""Checkpoints for nanoGPT: a trial's weights and optimizer in the form that nanoGPT resumes from."""

from __future__ import annotations

from pathlib import Path

from sweeps.export.nanogpt_config import ExportError, NanogptConfig
from trainer import nanogpt
from trainer.errors import CheckpointError


def export_checkpoint(source: Path, config: NanogptConfig, folder: Path) -> Path:
    """Write `folder`/ckpt.pt from the checkpoint in a run's folder `source`, and return its path.

    nanoGPT resumes from it with `--init_from=resume --out_dir=FOLDER`, under `config`. The file holds only tensors and
    plain Python, so it loads with weights_only=True. Raises CheckpointError for a checkpoint that is missing or
    damaged, ExportError where `folder` holds a checkpoint already or can't be written.
    """
    from trainer.run import checkpoint  # torch takes seconds to import, and a config alone doesn't need it

    trained = checkpoint.load(source)
    if trained is None:
        raise CheckpointError(
            f"{source}: holds no checkpoint ({checkpoint.FILE}); those of the best trial and of the baseline are kept, "
            "others are deleted when their trial ends"
        )
    path = folder / checkpoint.FILE
    if path.exists():
        raise ExportError(f"{path}: already exists; choose another folder with --checkpoint")
    import torch

    content = {
        "model": {name: tensor.float() for name, tensor in trained.model.items()},
        "optimizer": trained.optimizer,
        "model_args": dict(trained.model_args),
        "iter_num": trained.iter_num,
        "best_val_loss": torch.tensor(trained.best_val_loss),
        "config": {**nanogpt.DEFAULTS, **config.settings, "out_dir": str(folder.absolute())},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write(content, path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
