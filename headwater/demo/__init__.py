"""What `headwater demo` shows: real items through a real server, and two classifiers that learn from them."""
