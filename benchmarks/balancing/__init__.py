"""A world of requests, a core device's processor and a link whose rate a trace gives, in virtual time."""
