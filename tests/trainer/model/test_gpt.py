"""The model against transformers' GPT-2, nanoGPT's recorded initialisation and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from trainer.config import TrainConfig
from trainer.model.gpt import GPT

CONFIG = TrainConfig(n_layer=2, n_head=3, n_embd=48, block_size=24, vocab_size=101, dropout=0.0, bias=True)


def logits_of(model: GPT, x_BT: Tensor) -> Tensor:
    """Return the model's scores of every next token: (B, T, V)."""
    logits: Tensor = model.lm_head(model.hidden(x_BT))
    return logits


def tokens(*shape: int) -> Tensor:
    return torch.randint(CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(0))


def transformers_twin(model: GPT) -> GPT2LMHeadModel:
    """Return transformers' GPT-2 with this model's weights; transformers stores linear layers transposed."""
    config = model.config
    twin = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    transposed = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    weights = {name: tensor.t() if name.endswith(transposed) else tensor for name, tensor in model.state_dict().items()}
    twin.load_state_dict(weights, strict=True)
    return twin.eval()


@torch.no_grad()
def test_logits_and_loss_are_those_of_transformers() -> None:
    torch.manual_seed(3)
    model = GPT(CONFIG).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2)  # far from the initialisation
    x_BT, y_BT = tokens(5, 24), tokens(24, 5).t().contiguous()
    expected = transformers_twin(model)(x_BT).logits
    assert float((logits_of(model, x_BT) - expected).abs().max()) < 2e-5
    loss = F.cross_entropy(expected.flatten(0, 1), y_BT.flatten())
    assert float(model(x_BT, y_BT)) == pytest.approx(float(loss), abs=1e-5)


def test_gradients_are_those_of_transformers() -> None:
    torch.manual_seed(4)
    model = GPT(CONFIG)
    twin = transformers_twin(model)
    x_BT, y_BT = tokens(3, 24), tokens(24, 3).t().contiguous()
    model(x_BT, y_BT).backward()
    F.cross_entropy(twin(x_BT).logits.flatten(0, 1), y_BT.flatten()).backward()
    parameters = dict(model.named_parameters())
    for name, parameter in twin.named_parameters():
        ours, theirs = parameters[name].grad, parameter.grad
        assert ours is not None
        assert theirs is not None
        if theirs.shape != ours.shape or name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            theirs = theirs.t()
        assert float((ours - theirs).abs().max()) < 1e-5, name


@torch.no_grad()
def test_initialisation_is_nanogpts() -> None:
    """Sums and first values that nanoGPT 3adf61e recorded after torch.manual_seed(1337)."""
    torch.manual_seed(1337)
    model = GPT(TrainConfig(n_layer=2, n_head=3, n_embd=48, block_size=48, vocab_size=256))
    weights = dict(model.named_parameters())
    wte, wpe = weights["transformer.wte.weight"].double(), weights["transformer.wpe.weight"].double()
    assert float(wte.sum()) == pytest.approx(-2.066384492825023, abs=1e-6)
    assert float(wte.abs().sum()) == pytest.approx(196.4944296979212, abs=1e-6)
    assert wte.flatten()[:3].tolist() == pytest.approx([-0.010045460425, 0.003808811539, 0.004147417843], abs=1e-10)
    assert float(wpe.sum()) == pytest.approx(-0.5987583578307349, abs=1e-6)
    assert sum(p.numel() for p in model.parameters()) == 70128


@torch.no_grad()
def test_an_untrained_model_has_the_loss_of_a_uniform_guess() -> None:
    torch.manual_seed(0)
    loss = GPT(CONFIG)(tokens(8, 24), tokens(24, 8).t().contiguous())
    assert float(loss) == pytest.approx(math.log(CONFIG.vocab_size), abs=0.05)


@torch.no_grad()
def test_the_model_is_causal() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    x_BT = tokens(1, 24)
    changed = x_BT.clone()
    changed[0, 12] = (changed[0, 12] + 1) % CONFIG.vocab_size
    difference = (logits_of(model, x_BT) - logits_of(model, changed)).abs().amax(dim=2)[0]
    assert float(difference[:12].max()) == 0.0
    assert float(difference[12:].min()) > 0.0


@torch.no_grad()
def test_window_losses_average_to_the_loss() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    x_BT, y_BT = tokens(6, 24), tokens(24, 6).t().contiguous()
    assert float(model.window_losses(x_BT, y_BT).mean()) == pytest.approx(float(model(x_BT, y_BT)), abs=1e-6)


@torch.no_grad()
def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    x_BT, y_BT = tokens(2, 24), tokens(2, 24)
    log_p = F.log_softmax(logits_of(model, x_BT), dim=-1)
    plain, uniform = model(x_BT, y_BT), -log_p.mean()
    smoothed = model(x_BT, y_BT, label_smoothing=0.3)
    assert float(smoothed) == pytest.approx(0.7 * float(plain) + 0.3 * float(uniform), abs=1e-6)
