"""Which knob breaks the loss plateau of a small GPT: the command `sweep`.

The rooms, in the order to read them: study (the question), engine (running it), store (what happened), analysis (what
the runs show), verdict (the sentences), report (page, figures, dashboard), export (a config for nanoGPT). Below them
pruning decides when a trial stops, and workers train. Imports run downward only; tests/test_architecture.py holds the
order.
"""
