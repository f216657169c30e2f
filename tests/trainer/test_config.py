"""TrainConfig: its defaults, and the errors for settings that can't run."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import nanogpt
from trainer.config import EXPORTABLE, TrainConfig
from trainer.errors import ConfigError
from trainer.nanogpt import typed


def test_defaults_are_nanogpts() -> None:
    defaults = TrainConfig()
    same = {name for name in EXPORTABLE if getattr(defaults, name) == nanogpt.DEFAULTS[name]}
    assert same == set(EXPORTABLE) - {"device"}


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().n_layer = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_embd": 385}, "n_embd=385 is not divisible by n_head=12; nearest widths: 384 and 396"),
        ({"n_embd": 5}, "n_embd=5 is not divisible by n_head=12; nearest widths: 12"),
        ({"dropout": 1}, "dropout=1.0 must be below 1 (dropout probability)"),
        ({"dropout": -0.1}, "dropout=-0.1 must be at least 0 (dropout probability)"),
        ({"learning_rate": 0}, "learning_rate=0.0 must be above 0 (peak learning rate of AdamW)"),
        ({"max_iters": 1e3}, "max_iters=1000.0 is a number with a fraction, not a whole number; write 1000"),
        ({"max_iters": True}, "max_iters=True is true or false, not a whole number"),
        ({"n_layer": "6"}, "n_layer='6' is text, not a whole number"),
        ({"beta2": float("nan")}, "beta2=nan is not a finite number"),
        ({"bias": 0}, "bias=0 is a whole number, not true or false"),
        ({"dtype": "float15"}, "dtype='float15' is none of float32, bfloat16, float16; did you mean 'float16'?"),
        (
            {"init_from": "branch"},
            "init_from='branch' needs origin, the sha256 of the checkpoint that the run goes on from",
        ),
        (
            {"origin": "a" * 64},
            "origin names a checkpoint, but init_from='scratch' takes nothing from it; "
            "set init_from to branch (iterations from 0) or resume (iterations go on)",
        ),
        *(
            (
                {"origin": origin, "init_from": "branch"},
                f"origin={origin!r} is not a sha256: write the 64 hexadecimal digits, in lower case, that sha256sum "
                "prints for the checkpoint",
            )
            for origin in ("ckpt.pt", "A" * 64, "a" * 63)
        ),
        ({"n_emb": 64}, "unknown setting 'n_emb'; did you mean n_embd?"),
        (
            {"warmup_iters": 100, "lr_decay_iters": 100},
            "warmup_iters=100 must be below lr_decay_iters=100, or the rate never decays; "
            "lower warmup_iters or set decay_lr to false",
        ),
        (
            {"learning_rate": 1e-5},
            "min_lr=6e-05 is above learning_rate=1e-05: the rate would rise; set min_lr to 1e-06 (a tenth) or less",
        ),
        (
            {"eval_windows": 64, "final_windows": 32},
            "final_windows=32 is below the 64 windows of each evaluation, which are the first of them; "
            "raise it or lower eval_windows",
        ),
        (
            {"sampling": "nanogpt", "label_smoothing": 0.1},
            "label_smoothing=0.1 is not in nanoGPT: with sampling=nanogpt it must be 0",
        ),
        (
            {"sampling": "nanogpt", "data_fraction": 0.5},
            "data_fraction=0.5 is not in nanoGPT: with sampling=nanogpt it must be 1",
        ),
        *(
            (
                {"data_fraction": value},
                f"data_fraction={value} must be {limit} (share of the training data to train on, a fixed set of "
                "documents; not in nanoGPT)",
            )
            for value, limit in ((0.0, "above 0"), (1.5, "at most 1"))
        ),
        ({"device": "gpu"}, "device='gpu' is none of auto, cpu, cuda, cuda:0, cuda:1, ..."),
        ({"device": "cpu:0"}, "device='cpu:0' is none of auto, cpu, cuda, cuda:0, cuda:1, ..."),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_mapping(settings)
    assert str(caught.value) == message


def test_batches_and_windows() -> None:
    config = TrainConfig(batch_size=8, gradient_accumulation_steps=4, block_size=128, eval_iters=10)
    assert (config.sequences_per_iter, config.tokens_per_iter) == (32, 4096)
    assert (config.windows, config.windows_at_the_end) == (80, 320)
    assert config.replace(eval_windows=7).windows == 7


_ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers())
)


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(TrainConfig)]) | st.text(), _ANYTHING))
def test_any_settings_give_a_config_or_a_clear_error(settings: dict[str, Any]) -> None:
    try:
        config = TrainConfig.from_mapping(settings)
    except ConfigError:
        return
    assert TrainConfig.from_mapping(config.as_dict()) == config


class TestFromNanogpt:
    """A nanoGPT config is read as data and never executed."""

    def read(self, tmp_path: Path, text: str) -> TrainConfig:
        path = tmp_path / "train_x.py"
        path.write_text(text)
        return TrainConfig.from_nanogpt(path)

    def test_literals_and_arithmetic(self, tmp_path: Path) -> None:
        config = self.read(
            tmp_path,
            '"""my run"""\n# width\nn_embd = 6 * 64\nn_head = 6\nlearning_rate = 1e-3\nmin_lr = 1e-3 / 10\n'
            "dropout = 0\nbias = True\ngradient_accumulation_steps = 5 * 8\nout_dir = 'out-x'\ndataset = 'fineweb'\n"
            "wandb_log = False\nmax_iters: int = 20_000\nwarmup_iters = 2**9 - 12\n",
        )
        assert (config.n_embd, config.n_head, config.dropout, config.bias) == (384, 6, 0.0, True)
        assert config.min_lr == pytest.approx(1e-4)
        assert (config.max_iters, config.warmup_iters, config.gradient_accumulation_steps) == (20000, 500, 40)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("n_embd = open('64')\n", ":1: n_embd: \"open('64')\" would have to be executed"),
            ("n_embd = width\n", ":1: n_embd: 'width' has no value that can be read"),
            ("\nn_emb = 64\n", ":2: nanoGPT has no key 'n_emb' and would ignore it silently; did you mean n_embd?"),
            ("max_iters = 10.5\n", ":1: max_iters: 10.5 has the type float, not int"),
            ("n_embd = = 64\n", ":1: is not a Python config file"),
            ("__import__('os').system('touch pwned')\nn_embd = f()", ":2: n_embd: 'f()' would have to be executed"),
            ("n_embd = 385\n", ": n_embd=385 is not divisible by n_head=12"),
        ],
    )
    def test_anything_else_names_the_line(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            self.read(tmp_path, text)
        assert words in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / "train_x.py"))
        assert not Path("pwned").exists()

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            TrainConfig.from_nanogpt(tmp_path / "none.py")

    def test_nanogpt_has_33_keys(self) -> None:
        assert len(nanogpt.DEFAULTS) == 33

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        path = Path(self.folder) / "x.py"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(ConfigError):
            TrainConfig.from_nanogpt(path)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("config")


def test_a_whole_number_that_no_float_can_hold() -> None:
    with pytest.raises(ConfigError, match="learning_rate is a whole number of 1329 bits, too large for a float"):
        TrainConfig(learning_rate=10**400)
    with pytest.raises(ConfigError, match="a whole number of 1329 bits is too large for a float"):
        typed("learning_rate", 10**400)
