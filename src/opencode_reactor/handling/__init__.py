"""What a handler is: marking, filters, loading, and the context it is called with. Calls nobody itself."""
