"""Tests that want what migrations have written. By themselves: behind other kinds Django finds its own rows twice."""
