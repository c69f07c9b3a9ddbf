"""A Django app that notifyd brings: the users of a site whose project is not imported."""
