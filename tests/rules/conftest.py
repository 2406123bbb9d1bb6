"""Rules need no fixture; only hypothesis is told that a busy machine is not a failure."""

from hypothesis import settings

settings.register_profile("rules", deadline=None)
settings.load_profile("rules")
