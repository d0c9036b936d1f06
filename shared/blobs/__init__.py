"""Object storage: one file per provider."""
