"""PyTorch: exported programs are read for planning; nothing is trained with it here."""
