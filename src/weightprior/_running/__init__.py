"""Interrupts and progress: two things that happen while something runs."""
