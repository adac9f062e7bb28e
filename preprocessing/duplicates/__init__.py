"""Recordings that are there twice: fingerprints that show it, and whether a recording holds enough to be told from others."""
