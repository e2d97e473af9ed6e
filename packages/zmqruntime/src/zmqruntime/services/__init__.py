"""Services of this user: found, started, waited for, stopped, cleaned up after."""
