"""One loader a data set, and the table of them."""
