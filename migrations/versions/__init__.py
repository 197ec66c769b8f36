"""One file per revision, written by hand."""
