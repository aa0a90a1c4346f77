"""The files of export/ that are the same for every model; training, predict and serve import predict.py too."""
