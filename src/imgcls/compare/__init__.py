"""Finished runs side by side: what differs between them, their scores, and whether a difference is noise.

Everything that is shown is prepared once, as plain data (`prepare`); the page and the figures only draw it.
"""
