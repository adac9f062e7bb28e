"""The subjects of a study: pseudonyms, order, lineage of artefacts, duplicate recordings."""
