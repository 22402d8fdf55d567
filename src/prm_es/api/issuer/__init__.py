"""An OpenID Connect issuer for development: a login a role and no passwords, on loopback and nowhere else."""
