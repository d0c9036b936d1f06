"""The function `dispatch`."""
