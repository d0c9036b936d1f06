"""`make demo`: a real render, end to end, through the unmodified Conductor client."""
