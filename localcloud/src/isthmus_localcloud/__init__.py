"""AWS on one machine: LocalEmu with the parts that isthmus needs and LocalEmu lacks."""
