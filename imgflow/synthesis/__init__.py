"""Photos with text drawn over them, or printed on what they show: for training and benchmarks."""
