"""A fake card: tensors on the meta device, with their bytes counted and limited.

`FakeGPU` counts the bytes of all live storages and raises torch.OutOfMemoryError above its capacity. `OnCard` makes
code take CUDA's paths: autocast, flash attention and fused dropout. Allocations inside kernels and an allocator's
rounding are not simulated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.model.optim import make_optimizer

GIB = 2**30


class FakeGPU(TorchDispatchMode):
    """A counter of the bytes of live tensors created in its context."""

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__()
        self.capacity = capacity
        self.allocated = self.peak = 0
        self._alive: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if self._alive.get(storage._cdata) is storage:
            return
        size = storage.nbytes()
        if self.capacity is not None and self.allocated + size > self.capacity:
            free = self.capacity - self.allocated
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU 0 has a total capacity of "
                f"{self.capacity / GIB:.2f} GiB of which {free / 2**20:.2f} MiB is free. A fake card."
            )
        self._alive[storage._cdata] = storage
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.allocated -= size


class OnCard(TorchFunctionMode):
    """CUDA's behaviour: matrix products in `dtype` (None: float32), norms and loss in float32, fused attention."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._dtype = dtype
        self._casts: dict[int, Tensor] = {}

    def forget_casts(self) -> None:
        """Drop the cached casts, as autocast does on exit."""
        self._casts.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            x, *parameters = args
            casts = (None if parameter is None else self._cast(parameter) for parameter in parameters)
            return func(self._low(x), *casts, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func in (F.layer_norm, F.cross_entropy):
            return func(args[0].float(), *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _low(self, x: Tensor) -> Tensor:
        return x if self._dtype is None else x.to(self._dtype)

    def _cast(self, parameter: Tensor) -> Tensor:
        if id(parameter) not in self._casts:
            self._casts[id(parameter)] = self._low(parameter)
        return self._casts[id(parameter)]

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float, is_causal: bool) -> Any:
        if self._dtype is None:  # flash attention needs 16 bits
            return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, dropout_p, is_causal)[0]
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal)[0]


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return torch.native_dropout(x, p, True)[0] if training and p else x


def train_steps(config: TrainConfig, card: FakeGPU, *, device: str = "meta", dtype: torch.dtype | None = None) -> None:
    """Make two steps of the trainer's model and optimizer; `card.peak` is the second's, when the moments exist."""
    on_card = OnCard(dtype)
    with card, fused_on_meta(), torch.device(device):
        model = GPT(config).train()
        optimizer = make_optimizer(model, config)
        for _ in range(2):
            card.peak = card.allocated
            for _ in range(config.gradient_accumulation_steps):
                x_BT, y_BT = _batch(config)
                with on_card if device == "meta" else nullcontext():
                    loss = model(x_BT, y_BT)
                on_card.forget_casts()
                loss.backward()
                del loss
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def evaluate(config: TrainConfig, card: FakeGPU, *, dtype: torch.dtype | None = None) -> None:
    """Evaluate a batch after a step, as the trainer's loop does; `card.peak` is the evaluation's."""
    with card, fused_on_meta(), torch.device("meta"):
        model = GPT(config).train()
        optimizer = make_optimizer(model, config)
        model(*_batch(config)).backward()
        optimizer.step()  # creates the moments
        optimizer.zero_grad(set_to_none=True)
        model.eval()
        card.peak = card.allocated
        with OnCard(dtype), torch.no_grad():
            model.window_losses(*_batch(config))


def _batch(config: TrainConfig) -> tuple[Tensor, Tensor]:
    x_BT = torch.zeros(config.batch_size, config.block_size, dtype=torch.int64)
    return x_BT, torch.zeros_like(x_BT)


@contextmanager
def fused_on_meta() -> Iterator[None]:
    """Let fused optimizers accept meta tensors."""
    from torch.optim import optimizer

    def supported() -> list[str]:
        return ["meta", "cuda", "cpu"]

    before = optimizer._get_fused_kernels_supported_devices
    optimizer._get_fused_kernels_supported_devices = supported
    try:
        yield
    finally:
        optimizer._get_fused_kernels_supported_devices = before
