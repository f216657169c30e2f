"""The training loop: one run from its config and data to a Result, resumable at any moment.

The config, its seed included, and the data determine the result. Batches come from (seed, step), evaluations never
touch the training stream, and a checkpoint holds the states of the generators. So a run that was killed and resumed has
the losses of an uninterrupted run, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo
from torch import Tensor

from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.machine import device
from trainer.model.gpt import GPT
from trainer.model.optim import make_optimizer, set_lr
from trainer.points import Answer, Point, Result
from trainer.run import checkpoint, fast_paths, resume
from trainer.run.resume import History
from trainer.run.sampling import Feed, NanogptFeed, StepFeed
from trainer.run.start import Start, start_of
from trainer.schedule import lr_at

EXPLODED = 1.0
"""Nats above the larger of ln(vocabulary) and the run's first validation loss. Two evaluations in a row above it count
as exploded: their perplexity is more than e times that of an untrained model."""

MOST_GRAPHS = 1000
"""compiled graphs per process; beyond torch's default of 8 a model silently runs uncompiled"""

Report = Callable[[Point], Answer]
OnIter = Callable[[int, float], None]
Pausing = Callable[[], bool]


class _PauseRequested(Exception):
    """The run should pause before its next step."""


def train(
    config: TrainConfig,
    data: Dataset,
    report: Report,
    *,
    out: Path | None = None,
    origin: Path | None = None,
    checkpoint_seconds: float = 0.0,
    on_iter: OnIter | None = None,
    pausing: Pausing = lambda: False,
) -> Result:
    """Train `config` on `data` and report every evaluation; the answer of `report` says whether to continue.

    `on_iter(iter, loss)` is called with the training loss of every `log_interval`-th iteration, nats per token.

    `pausing()` is asked before every step and between the batches of an evaluation. If it returns True, the run writes
    a checkpoint and ends as "paused", without waiting for its next evaluation.

    With `out`, checkpoints are written to that folder at evaluations, at least `checkpoint_seconds` apart, and at the
    end. If the folder holds a checkpoint of this run, the run resumes: the points of its history are reported again,
    only the last answer counts, and `on_iter` is called again with the logged losses.

    `origin` is another run's checkpoint, in nanoGPT's form, whose sha256 the config names. A run whose folder holds no
    checkpoint yet takes its weights and moments from there. With init_from="branch" it begins at step 0; with "resume"
    it goes on at the origin's step, which it evaluates first. The file is only read.

    The outcome is "infeasible" if the device runs out of memory, and "diverged" for NaN, infinity or an exploded loss.
    Raises ConfigError, DataError, CheckpointError.
    """
    try:
        start = start_of(config, data, out=out, origin=origin)
        run = _Run(start, data, out=out, checkpoint_seconds=checkpoint_seconds, on_iter=on_iter, pausing=pausing)
        del start  # it holds the weights once more
        return run.go(report)
    except torch.OutOfMemoryError as error:
        reason = f"out of memory: {str(error).splitlines()[0]}"
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):  # a CPU's lack of memory has no class of its own
            raise
        reason = f"out of memory: {str(error).splitlines()[0]}"
    # outside of the except blocks the traceback, which keeps tensors alive, is gone
    return Result(outcome="infeasible", step=0, points=(), reason=reason)


class _Run:
    """A run in progress: model, optimizer, feed and history."""

    def __init__(
        self,
        start: Start,
        data: Dataset,
        *,
        out: Path | None,
        checkpoint_seconds: float,
        on_iter: OnIter | None,
        pausing: Pausing,
    ) -> None:
        self.config, state = start.config, start.state
        config = self.config
        self.data, self.out, self.on_iter, self.pausing = data, out, on_iter, pausing
        self.checkpoint_seconds = checkpoint_seconds
        self.started = self.saved_at = time.perf_counter()
        self.training_seconds = 0.0  # since the last evaluation
        self.unread: list[tuple[int, Tensor]] = []  # (step, loss), still on the device
        self.grad_norm: Tensor | None = None

        self.device = torch.device(device.resolve(config.device))
        self.precision = device.precision(str(self.device), config.dtype)
        self.fallbacks = fast_paths.fallbacks(config, self.device, self.precision)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 for float32, as nanoGPT sets it

        torch.manual_seed(config.seed)
        self.model = GPT(config).to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.step, self.best_val_loss = start.step, start.best_val_loss
        self.saved_step = start.step if state is not None else None
        """step of this run's checkpoint in `out`; None: there is none"""
        start.load_into(self.model, self.optimizer)
        if state is not None:
            self.history = History.from_state(state["history"])
            self.training_seconds = self.history.training_seconds
            self.scaler.load_state_dict(state["scaler"])
        else:
            self.history = History(first_step=self.step)
        self.feed: Feed = (
            NanogptFeed(config, data, self.device, state=state["feed"] if state else None)
            if config.sampling == "nanogpt"
            else StepFeed(config, data, self.device, step=self.step)
        )
        if state is not None:
            resume.set_generators(state["generators"])
        compiled = fast_paths.compiles(config, self.device)
        self.forward: Callable[..., Tensor] = _compiled(self.model) if compiled else self.model
        self.smoothing: float | Tensor = config.label_smoothing
        if compiled and config.label_smoothing > 0.0:
            self.smoothing = torch.tensor(config.label_smoothing, device=self.device)

    # the loop

    def go(self, report: Report) -> Result:
        """Train to the end, or until an answer ends the run."""
        answer = self._replay(report)
        if answer is not Answer.GO:
            return self._ended(answer)
        if self.history.final is not None:
            return self._complete()
        try:
            return self._train(report)
        except _PauseRequested:
            return self._pause()

    def _train(self, report: Report) -> Result:
        """Train from the current step on. Raises _PauseRequested between two steps."""
        while True:
            self._check_pause()
            if self._evaluates_at(self.step) and not self._is_evaluated(self.step):
                result = self._evaluate_and_report(report)
                if result is not None:
                    return result
            if self.config.eval_only or (self.step == self.config.max_iters and self.config.sampling == "step"):
                break
            self._update()
            if self.step % self.config.log_interval == 0 or self._evaluates_at(self.step + 1):
                diverged_at = self._read_losses()
                if diverged_at is not None:
                    return self._result("diverged", reason=f"the training loss is not finite at step {diverged_at}")
            if self.step == self.config.max_iters:  # nanoGPT makes one update more than max_iters
                break
            self.step += 1
        self._finish()
        return self._complete()

    def _check_pause(self) -> None:
        if self.pausing():
            raise _PauseRequested

    def _replay(self, report: Report) -> Answer:
        """Report a resumed run's history again. Returns the answer to its last point."""
        answer = Answer.GO
        for event in self.history.in_order():
            if isinstance(event, Point):
                answer = report(event)
            elif self.on_iter is not None:
                self.on_iter(*event)
        return answer

    def _evaluates_at(self, step: int) -> bool:
        on_the_grid = step % self.config.eval_interval == 0
        if self.config.origin and step == self.history.first_step:
            return True
        return on_the_grid or (step == self.config.max_iters and self.config.sampling == "step")

    def _is_evaluated(self, step: int) -> bool:
        """Whether a resumed run's history already holds the evaluation at `step`."""
        points = self.history.points
        return bool(points) and points[-1].step == step

    def _update(self) -> None:
        """Make one optimizer step on an iteration's micro-batches. Its loss is read later, to keep the device busy."""
        config, started = self.config, time.perf_counter()
        self.model.train()
        set_lr(self.optimizer, lr_at(self.step, config))
        losses = []
        for _ in range(config.gradient_accumulation_steps):
            x_BT, y_BT = self.feed.batch
            with self._autocast():
                loss = self.forward(x_BT, y_BT, label_smoothing=self.smoothing)
            self.feed.advance()
            scaled = self.scaler.scale(loss / config.gradient_accumulation_steps)
            scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        limit = config.grad_clip or math.inf
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        # nanoGPT logs the loss of the last micro-batch; the mean over all of them doesn't depend on the split
        logged = losses[-1] if config.sampling == "nanogpt" else torch.stack(losses).mean()
        self.unread.append((self.step, logged))
        self.training_seconds += time.perf_counter() - started

    def _read_losses(self) -> int | None:
        """Fetch and log the losses since the last call. Returns the first step whose loss isn't finite, or None."""
        started = time.perf_counter()
        values = torch.stack([loss for _, loss in self.unread]).tolist()
        steps = [step for step, _ in self.unread]
        self.unread = []
        self.training_seconds += time.perf_counter() - started
        for step, value in zip(steps, values, strict=True):
            if not math.isfinite(value):
                return step
            if step % self.config.log_interval == 0:
                self.history.logged.append((step, value))
                if self.on_iter is not None:
                    self.on_iter(step, value)
        return None

    # evaluations

    def _evaluate_and_report(self, report: Report) -> Result | None:
        """Evaluate, report the point and save. Returns the result if the run ends here, else None."""
        point = self._evaluate()
        self.history.points.append(point)
        answer = report(point)
        if exploded := self._exploded():
            return self._result("diverged", reason=exploded)
        self._save_if_due(point, pausing=answer is Answer.PAUSE)
        return None if answer is Answer.GO else self._ended(answer)

    def _evaluate(self) -> Point:
        config, points = self.config, self.history.points
        train_loss, train_se = self._loss_on("train", windows=config.windows)
        val_loss, val_se = self._loss_on("val", windows=config.windows)
        updates = self.step - (points[-1].step if points else self.history.first_step)
        speed = updates * config.tokens_per_iter / self.training_seconds if self.training_seconds else None
        self.training_seconds = 0.0
        if self.grad_norm is not None:
            self.history.grad_norm = float(self.grad_norm)
        return Point(
            step=self.step,
            tokens=self.step * config.tokens_per_iter,
            train_loss=train_loss,
            train_se=train_se,
            val_loss=val_loss,
            val_se=val_se,
            lr=lr_at(self.step, config),
            grad_norm=self.history.grad_norm,
            tokens_per_s=speed,
            seconds=self._seconds(),
        )

    def _loss_on(self, split: str, *, windows: int) -> tuple[float, float]:
        """Return the mean loss over windows, nats per token, without dropout, and its standard error."""
        self.model.eval()
        with torch.no_grad(), self._autocast():
            batches = []
            for x_BT, y_BT in self.feed.evaluation(split, windows=windows):
                if self.config.sampling == "step":  # nanoGPT's windows can't be drawn again: they move its batches
                    self._check_pause()
                batches.append(self.model.window_losses(x_BT, y_BT))
        losses = torch.cat(batches).double()
        error = float(losses.std(correction=1)) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
        return float(losses.mean()), error

    def _exploded(self) -> str:
        """Return the reason why the loss counts as exploded, or "" if it doesn't. A single spike doesn't count."""
        points = self.history.points
        if not math.isfinite(points[-1].val_loss):
            return f"the validation loss is not finite at step {points[-1].step}"
        limit = max(math.log(self.config.vocab_size), points[0].val_loss) + EXPLODED
        if len(points) > 1 and min(points[-1].val_loss, points[-2].val_loss) > limit:
            losses = f"{points[-2].val_loss:.2f} and {points[-1].val_loss:.2f}"
            return f"the validation loss exploded to {losses} at step {points[-1].step} (above {limit:.2f})"
        return ""

    # ends

    def _finish(self) -> None:
        """Evaluate on the large window set. Parity mode has no fixed windows, so its last evaluation counts."""
        points = self.history.points
        if self.config.sampling == "step" and not self.config.eval_only:
            self.history.final = self._loss_on("val", windows=self.config.windows_at_the_end)
            self._save()
        elif points:
            self.history.final = points[-1].val_loss, points[-1].val_se

    def _complete(self) -> Result:
        if self.history.final is None:  # parity mode without any evaluation
            return self._result("complete")
        val_loss, val_se = self.history.final
        if not math.isfinite(val_loss):
            return self._result("diverged", reason=f"the validation loss is not finite at step {self.step}")
        return dataclasses.replace(self._result("complete"), val_loss=val_loss, val_se=val_se)

    def _pause(self) -> Result:
        """Write a checkpoint between two evaluations, with what is otherwise kept until the next evaluation."""
        diverged_at = self._read_losses() if self.unread else None
        if diverged_at is not None:
            return self._result("diverged", reason=f"the training loss is not finite at step {diverged_at}")
        if self.grad_norm is not None:
            self.history.grad_norm = float(self.grad_norm)
        self._save()
        return self._result("paused")

    def _ended(self, answer: Answer) -> Result:
        return self._result("stopped" if answer is Answer.STOP else "paused")

    def _result(self, outcome: str, *, reason: str = "") -> Result:
        points = tuple(self.history.points)
        return Result(
            outcome=outcome,
            step=self.step,
            points=points,
            reason=reason,
            seconds=self._seconds(),
            fallbacks=self.fallbacks,
        )

    def _seconds(self) -> float:
        return self.history.seconds + time.perf_counter() - self.started

    # checkpoints

    def _save_if_due(self, point: Point, *, pausing: bool) -> None:
        worth_saving = self.config.always_save_checkpoint or point.val_loss < self.best_val_loss
        if worth_saving:
            self.best_val_loss = point.val_loss
        due = time.perf_counter() - self.saved_at >= self.checkpoint_seconds
        if pausing or (due and worth_saving and self.step > self.history.first_step):
            self._save()

    def _save(self) -> None:
        if self.out is None:
            return
        history = dataclasses.replace(self.history, seconds=self._seconds(), training_seconds=self.training_seconds)
        state = {
            "settings": self.config.as_dict(),
            "data": self.data.fingerprint,
            "history": history.as_state(),
            "scaler": self.scaler.state_dict(),
            "feed": self.feed.state(),
            "generators": resume.generators(),
        }
        checkpoint.save(
            self.out,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            config=self.config,
            dataset=self.data.path,
            iter_num=self.step,
            best_val_loss=self.best_val_loss,
            state=state,
            before=None if self.history.final is not None else self.saved_step,
        )
        self.saved_at, self.saved_step = time.perf_counter(), self.step

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def _compiled(model: GPT) -> Callable[..., Tensor]:
    """Compile the model for static shapes.

    A process compiles each shape once, whatever the learning rate, weight decay, seed, dropout or label smoothing:
    these are inputs. Zero dropout and zero label smoothing have graphs of their own. Every dropout rate has its own
    graph where attention can't use flash attention in bfloat16 (`trainer.model.flash`).
    """
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    return torch.compile(model, dynamic=False)
