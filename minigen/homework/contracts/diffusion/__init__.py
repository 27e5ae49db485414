"""The exercises of chapter 11. Levels are counted from 0, as everywhere in code."""
