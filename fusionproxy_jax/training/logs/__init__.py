"""Where the metrics and pictures of a run go, one file each."""
