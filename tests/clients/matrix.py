"""The two books: what artists do, and the traps into which clients are driven."""

from tests.clients.rows import Book

FLOWS = Book()
TRAPS = Book()
