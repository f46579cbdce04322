"""What only a person at the command line calls, with that person's own rights: finding everything that a
stack has in an account, one kind of thing per class and one small file per service; what refers to
versions; and what the account grants. No function of the template may import it."""
