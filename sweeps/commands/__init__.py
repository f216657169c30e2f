"""Commands of `sweep`: arguments and printing only. Each imports what it needs when it runs."""
