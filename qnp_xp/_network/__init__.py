"""What a network is once its file has been read, and its convolutions."""
