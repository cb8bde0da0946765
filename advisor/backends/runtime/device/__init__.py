"""Memory, clock and buffers of one device."""
