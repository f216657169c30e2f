"""Checkpoints for nanoGPT: a branch before its first update, or a trial's end, in the form that nanoGPT resumes from.

nanoGPT takes weight decay and betas from the optimizer's state, whatever its config says, so they are written there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.export.branch import is_branch, origin_file
from sweeps.export.nanogpt_config import ExportError, NanogptConfig
from sweeps.paths import StudyPaths
from sweeps.store.records import Run
from sweeps.study.study import Study
from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import CheckpointError

FILE = "ckpt.pt"
EXPORTED = ("weight_decay", "beta1", "beta2", "dropout")
SHAPE_OF_MODEL = ("n_layer", "n_head", "n_embd")
"""settings that the config may have from the control rather than from the branch, and the checkpoint holds"""
NO_LOSS_YET = 1e9
"""nanoGPT's best_val_loss before its first evaluation; any loss is lower, so none is kept from being saved"""


def write_checkpoint(
    study: Study, run: Run, paths: StudyPaths, config: NanogptConfig, folder: Path, *, trained: bool
) -> Path:
    """Write the checkpoint beside a run's config to `folder`, and return its path.

    It is a branch's start, unless its end is wanted (`trained`), and the end of any other run. Raises what
    `export_start` and `export_end` raise.
    """
    if is_branch(run) and not trained:
        taken = {name: config.settings[name] for name in (*EXPORTED, *SHAPE_OF_MODEL)}
        return export_start(run.config.replace(**taken), origin_file(study, paths), config, folder)
    return export_end(paths.run(run.id), config, folder)


def export_start(branch: TrainConfig, origin: Path, config: NanogptConfig, folder: Path) -> Path:
    """Write `folder`/ckpt.pt, from which nanoGPT goes on as the branch did from its first update, and return its path.

    It holds the weights and moments of the checkpoint `origin`, grown where the branch grew, at iteration 0, and the
    branch's weight decay and betas. Raises CheckpointError for a checkpoint that is missing or isn't the branch's
    origin, ExportError where `folder` holds a checkpoint already or can't be written.
    """
    from trainer.model.gpt import GPT  # torch takes seconds to import, and a config alone doesn't need it
    from trainer.model.optim import make_optimizer
    from trainer.run.start import from_origin

    _check_free(folder)
    start = from_origin(branch, origin)
    model = GPT(start.config)
    optimizer = make_optimizer(model, start.config)
    start.load_into(model, optimizer)
    return _write(
        folder,
        config,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        model_args=_model_args(start.config),
        iter_num=0,
        best_val_loss=NO_LOSS_YET,
    )


def export_end(source: Path, config: NanogptConfig, folder: Path) -> Path:
    """Write `folder`/ckpt.pt from the checkpoint in a run's folder `source`, and return its path.

    Raises CheckpointError for a checkpoint that is missing or damaged, ExportError where `folder` holds a checkpoint
    already or can't be written.
    """
    from trainer.run import checkpoint

    trained = checkpoint.load(source)
    if trained is None:
        raise CheckpointError(
            f"{source}: holds no checkpoint ({FILE}); those of the best trial and of the baseline are kept, "
            "others are deleted when their trial ends"
        )
    _check_free(folder)
    return _write(
        folder,
        config,
        model={name: tensor.float() for name, tensor in trained.model.items()},
        optimizer=trained.optimizer,
        model_args=dict(trained.model_args),
        iter_num=trained.iter_num,
        best_val_loss=trained.best_val_loss,
    )


def _model_args(config: TrainConfig) -> dict[str, Any]:
    from trainer.run.checkpoint import SHAPE

    return {**{key: getattr(config, key) for key in SHAPE}, "dropout": config.dropout}


def _check_free(folder: Path) -> None:
    if (folder / FILE).exists():
        raise ExportError(f"{folder / FILE}: already exists; choose another folder with --checkpoint")


def _write(folder: Path, config: NanogptConfig, *, best_val_loss: float, **content: Any) -> Path:
    """Write a checkpoint that holds only tensors and plain Python, so that it loads with weights_only=True."""
    import torch

    from trainer.run import checkpoint

    path = folder / FILE
    settings = {**nanogpt.DEFAULTS, **config.settings, "out_dir": str(folder.absolute())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write({**content, "best_val_loss": torch.tensor(best_val_loss), "config": settings}, path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
