"""Other servers and libraries, each doing Headwater's work as well as it can; none of these files imports Headwater.

The scripts run in environments of their own (`environment.py`), so they share nothing but `embed.py`.
"""
