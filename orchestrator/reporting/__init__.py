"""Stage 5: the files, tables, figures and sentences of finished runs."""
