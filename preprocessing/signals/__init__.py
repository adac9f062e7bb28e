"""Biosignals: reading, units, filters, EMD, resampling (paper, Figs. 2 to 4)."""
