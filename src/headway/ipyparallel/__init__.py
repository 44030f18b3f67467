"""headway's scheduler inside IPython.parallel clusters. Needs the extra headway[ipyparallel]."""
