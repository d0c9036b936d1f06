"""Message buses: one file per provider."""
