"""A compression method and two model families that are no part of vidcompress."""
