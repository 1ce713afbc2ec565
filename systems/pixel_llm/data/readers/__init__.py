"""Readers: one module a format, each a `READER`; `registry.READERS` has them all, by name."""
