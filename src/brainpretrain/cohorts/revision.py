"""The revision of the fingerprints, apart from their code, so that a plan of jobs imports nothing slow."""

FINGERPRINTS = 2  # to be raised when the fingerprint of an image changes; all fingerprints and audits are then made again
