"""Exercises of chapter 03: the game of pairs."""
