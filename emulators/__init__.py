"""Stand-ins for what has no emulator of its own; imports nothing of shared/."""
