"""The loss of a model that knows only how often each token occurs, the first plateau of every training run.

Within its first iterations a language model learns the frequencies of tokens, and only then what follows what. A run
that is still near this loss has learnt nothing yet that its settings could change.
"""

from __future__ import annotations

import numpy as np

from trainer.data.dataset import Dataset

TRAIN_TOKENS, VAL_TOKENS = 4 << 20, 1 << 20
"""tokens that are counted at most, from the start of each split"""


def unigram_loss(dataset: Dataset) -> float:
    """Return the cross-entropy of the validation split under the training split's token frequencies, nats per token.

    One is added to each count, so that a token which the training split lacks has a finite loss.
    """
    vocab_size = dataset.vocab_size
    train = np.bincount(dataset.tokens("train")[:TRAIN_TOKENS], minlength=vocab_size) + 1.0
    val = np.bincount(dataset.tokens("val")[:VAL_TOKENS], minlength=vocab_size)
    return float(-np.average(np.log(train / train.sum()), weights=val))
