"""The artefacts of stages 1 to 3, each with its key, its plan and how it is opened."""
