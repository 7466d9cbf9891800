"""Adapter of classes that have none of their own."""

from vidcompress.adapters.generic.adapter import GenericAdapter as GenericAdapter
