"""Stage 1: the masked auto-encoders of face video and signals, and how they are trained (paper, Figs. 5A and 6)."""
