"""Numbers: from predictions to scores over subjects, and their tests."""
