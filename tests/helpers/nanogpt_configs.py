"""Configs that people have: the seven of nanoGPT, its defaults as an eighth, and what forks and users write.

nanoGPT's are quoted, without most comments, from karpathy/nanoGPT at 3adf61e, folder config/ (MIT License, Copyright
(c) 2022 Andrej Karpathy).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

NANOGPT = {
    "eval_gpt2": """\
batch_size = 8
eval_iters = 500 # use more iterations to get good estimate
eval_only = True
wandb_log = False
init_from = 'gpt2'
""",
    "eval_gpt2_large": """\
batch_size = 8
eval_iters = 500 # use more iterations to get good estimate
eval_only = True
wandb_log = False
init_from = 'gpt2-large'
""",
    "eval_gpt2_medium": """\
batch_size = 8
eval_iters = 500 # use more iterations to get good estimate
eval_only = True
wandb_log = False
init_from = 'gpt2-medium'
""",
    "eval_gpt2_xl": """\
batch_size = 8
eval_iters = 500 # use more iterations to get good estimate
eval_only = True
wandb_log = False
init_from = 'gpt2-xl'
""",
    "finetune_shakespeare": """\
import time
out_dir = 'out-shakespeare'
eval_interval = 5
eval_iters = 40
wandb_log = False # feel free to turn on
wandb_project = 'shakespeare'
wandb_run_name = 'ft-' + str(time.time())
dataset = 'shakespeare'
init_from = 'gpt2-xl' # this is the largest GPT-2 model
always_save_checkpoint = False
batch_size = 1
gradient_accumulation_steps = 32
max_iters = 20
learning_rate = 3e-5
decay_lr = False
""",
    "train_gpt2": """\
wandb_log = True
wandb_project = 'owt'
wandb_run_name='gpt2-124M'
batch_size = 12
block_size = 1024
gradient_accumulation_steps = 5 * 8
max_iters = 600000
lr_decay_iters = 600000
eval_interval = 1000
eval_iters = 200
log_interval = 10
weight_decay = 1e-1
""",
    "train_shakespeare_char": """\
out_dir = 'out-shakespeare-char'
eval_interval = 250 # keep frequent because we'll overfit
eval_iters = 200
log_interval = 10 # don't print too too often
always_save_checkpoint = False
wandb_log = False # override via command line if you like
wandb_project = 'shakespeare-char'
wandb_run_name = 'mini-gpt'
dataset = 'shakespeare_char'
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256 # context of up to 256 previous characters
n_layer = 6
n_head = 6
n_embd = 384
dropout = 0.2
learning_rate = 1e-3 # with baby networks can afford to go a bit higher
max_iters = 5000
lr_decay_iters = 5000 # make equal to max_iters usually
min_lr = 1e-4 # learning_rate / 10 usually
beta2 = 0.99 # make a bit bigger because number of tokens per iter is small
warmup_iters = 100 # not super necessary potentially
""",
    "defaults": "",
}
"""nanoGPT's own; the last is train.py without a config"""

_SMALL = """\
batch_size = 8
gradient_accumulation_steps = 2
block_size = 64
n_layer = 2
n_head = 4
n_embd = 96
"""
USERS = {
    "derived": _SMALL
    + """\
dataset = 'poems'
learning_rate = 7e-4
max_iters = 5000
lr_decay_iters = max_iters
min_lr = learning_rate / 10
warmup_iters = max_iters // 50
""",
    "helpers": _SMALL
    + """\
dataset = 'poems'
tokens_per_pass = 4096
batch_size = tokens_per_pass // block_size
max_iters = lr_decay_iters = 2000
warmup_iters = 80
learning_rate, min_lr = 5e-4, 5e-5
dtype = 'bfloat16' if torch.cuda.is_bf16_supported() else 'float16'
wandb_run_name = f'{n_layer}x{n_embd}-{block_size}'
""",
    "clock": """\
import time
import os
out_dir = 'out-poems'
eval_interval = 50
wandb_log = True
wandb_project = 'poems'
wandb_run_name = 'poems-' + str(time.time())
dataset = 'poems'
"""
    + _SMALL
    + """\
max_iters = 500
lr_decay_iters = 500
warmup_iters = 25
learning_rate = 6e-4
min_lr = 6e-5
""",
    "fork": """\
seed = 11
vocab_size = 50304
lora_rank = 8
lora_alpha = 16.0
tie_embeddings = True
dataset = 'poems'
"""
    + _SMALL
    + """\
max_iters = 20000
lr_decay_iters = 20000
warmup_iters = 200
learning_rate = 4e-4
min_lr = 4e-5
""",
    "laptop": """\
dataset = 'poems'
device = 'mps'
compile = False
"""
    + _SMALL
    + """\
max_iters = 1500
lr_decay_iters = 1500
warmup_iters = 60
learning_rate = 1e-3
min_lr = 1e-4
""",
    "no schedule": """\
dataset = 'poems'
max_iters = 1500
learning_rate = 1e-3
"""
    + _SMALL,
}
"""as forks and users write them: derived values, helpers, imports, keys of a fork, a laptop, an untouched schedule"""


def write_config(folder: Path, text: str, *, name: str = "train_mine.py") -> Path:
    """Write a config into `folder`/config, as in a checkout of nanoGPT, and return its path."""
    path = folder / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_data(folder: Path, *, tokens: int = 200_000) -> Path:
    """Write a data folder as nanoGPT's prepare.py does: random tokens of a vocabulary of 65. Return the folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", tokens), ("val", tokens // 2)):
        rng.integers(0, 65, size).astype(np.uint16).tofile(folder / f"{split}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65}))
    return folder
