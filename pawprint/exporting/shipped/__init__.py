"""The files of export/ that are the same for every model. The library imports predict.py too."""
