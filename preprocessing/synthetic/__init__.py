"""A synthetic cohort, written in the layout of BioVid."""
