"""Stage 2: the code of the workers that train the masked auto-encoders."""
