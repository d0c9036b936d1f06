"""Firestore."""
