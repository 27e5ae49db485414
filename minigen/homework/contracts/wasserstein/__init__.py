"""Exercises of chapter 03: the critic."""
