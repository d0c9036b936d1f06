"""Pure functions: every decision Baton takes. No I/O, no clock, no randomness."""
