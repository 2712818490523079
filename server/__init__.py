"""The Falcon app, its gunicorn configuration, the supervisor and the command line; knows no tensors."""
