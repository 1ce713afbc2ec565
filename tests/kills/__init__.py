"""Trainings that are killed at random moments and go on again, until they end as an unbroken one does.

`python -m tests.kills --kills 200` is a program, no test; `tests/training/test_kills.py` asks the same for fewer.
"""
