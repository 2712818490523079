"""What a checkpoint can be compiled for."""
