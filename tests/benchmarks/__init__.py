"""The benchmarks: that they run, and that their figures are made from what they measured."""
