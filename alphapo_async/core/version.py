"""The release, as it stands in the package's metadata and in a journal's history."""

__version__ = "0.1.0"
