"""Files that may be anything, read with distrust: torch files, their zips and pickles, JSON."""
