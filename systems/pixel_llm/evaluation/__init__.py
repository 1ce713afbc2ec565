"""Evaluation: how good the captions are, and pictures of it."""
