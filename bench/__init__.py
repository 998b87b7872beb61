"""`make bench`: what calls and runs cost, beside limits that are measured in the same run."""
