"""What the runs show, as frozen dataclasses: no sentence, no figure, no clock.

May import store.records, study, pruning and trainer.
"""
