"""A cohort that is made up, written in BioVid's layout."""
