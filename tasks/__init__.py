"""Downsize's work: plain functions from files to files, no scheduler in sight."""
