"""Large results: files in stores, one for each nanny; written by engines, read by whoever asks."""
