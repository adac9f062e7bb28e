"""Stage 2: what the workers that train the masked auto-encoders run."""
