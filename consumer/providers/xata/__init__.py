"""Users' databases at Xata: a branch per user, spread over a pool of projects.

In the order of a creation: `places` (which region), `projects` (which project has room), `placements` (what must be
known after a kill), `templates` (what the branch is made from), `creating` (the branch, made or adopted), `readiness`
(until it answers), `provider` (puts them together). Under all: `api` (the only HTTP), the `pace` that all copies keep
together, `bodies` (what answers hold) and `answers` (what refusals mean).
"""
