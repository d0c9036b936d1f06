"""The adapters that the product's functions make of their environment, in a process that sees several."""

from shared import wiring


def forget_adapters() -> None:
    """Have wiring make its adapters anew: those that are there were made for another stack."""
    for made in vars(wiring).values():
        if hasattr(made, "cache_clear"):
            made.cache_clear()
