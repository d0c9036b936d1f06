"""Wire JSON to models and back (marshmallow)."""
