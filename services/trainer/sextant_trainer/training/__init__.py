"""The training child: data, loop, validation, checkpoints. Holds no credentials and knows no server."""
