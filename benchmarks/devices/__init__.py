"""The edge function's package, as it is shipped to a core device."""
