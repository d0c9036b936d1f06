"""`make bench`: the rows of the scorecard, each beside a floor and a peer measured in the same run."""
