"""The bridge between state machine and rig under one seeded scheduler: see docs/adr/0029-simulation-and-chaos.md."""
