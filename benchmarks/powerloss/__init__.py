"""A device that loses power: a disk that forgets what was not synced, and a process that is killed."""
