"""A small GPT trainer that keeps nanoGPT's names, config files, checkpoints and losses."""
