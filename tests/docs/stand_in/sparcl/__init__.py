"""Stands in for sparclclient where pages are run, since tests have no network."""
