"""Exercises of chapter 07: translation learnt without pairs."""
