"""One file per verb of a dataset's path; each takes the ports that it needs and nothing else."""
