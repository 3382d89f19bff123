"""Tests of a site that has kept its alias for reading, run by Django's runner and by pytest-django."""
