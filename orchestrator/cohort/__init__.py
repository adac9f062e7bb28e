"""The subjects of a study: pseudonyms and order, who has seen whom, recordings that two subjects share."""
