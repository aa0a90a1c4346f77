"""The docs, and the script that makes their pictures."""
