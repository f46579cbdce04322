"""Stand-in Greengrass core devices: separate processes that see the cloud through a link that can be cut."""
