"""Decisions as pure functions: values in, values out. Nothing here waits, reads a clock, draws a number or knows SQL."""
