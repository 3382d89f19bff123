"""Tests as a site has them, run by Django's runner and by pytest-django, through Highwater with replicas on."""
