"""Exercises of chapter 06: translation learnt from pairs."""
