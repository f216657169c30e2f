"""Which knob breaks the loss plateau of a small GPT: the orchestrator behind the command `sweep`."""
