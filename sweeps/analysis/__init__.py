"""Analysis: what the runs show, as frozen dataclasses, without sentences, figures or a clock.

May import store.records, study, pruning and trainer.
"""
