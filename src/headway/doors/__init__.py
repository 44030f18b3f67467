"""Other ways in: each file makes headway look like an interface that people use already."""
