"""One file per use case: load, ask the core, save, publish."""
