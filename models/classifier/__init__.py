"""Stage 2: the dual-stream classifier and how it is trained (paper, Figs. 5B and 7)."""
