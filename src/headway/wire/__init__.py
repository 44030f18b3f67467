"""What travels between processes: messages, frames, pickles, sockets and keys."""
