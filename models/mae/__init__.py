"""Stage 1: the masked autoencoders of face video and signals, and their training (paper, Figs. 5A and 6)."""
