"""Where users' databases come from.

Every provider implements `protocol.DatabaseProvider` and passes the contract suite beside its tests. What it must do,
in short:

- `create` and `delete` can be repeated at any time, by several processes at once, and after a kill anywhere in them.
- A database that is there already under our name is adopted when it is the user's, and refused when it is a stranger's.
- Waiting is `NotYet`, a full quota is `QuotaBlocked`, an outage is `DependencyDown`; each call ends within a minute.
- Secrets leave it through `connection_url` only; they are never stored, logged, or put into an error's text.
"""
