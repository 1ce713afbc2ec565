"""The command line: it wires the other packages together, prints and parses. Nothing imports it."""
