"""Postgres says no on purpose: SQL that makes writes to the two tables fail, and SQL that lets them work again."""

from typing import Final

_FAILING: Final = """
create sequence chaos_turns;
create function chaos() returns trigger language plpgsql as $$
begin
    if {condition} then
        raise exception 'on purpose' using errcode = '{sqlstate}';
    end if;
    return new;
end $$;
create trigger chaos before insert on user_guards for each row execute function chaos();
create trigger chaos before insert on databases for each row execute function chaos();
"""
WORKING: Final = "drop function chaos cascade; drop sequence chaos_turns"


def failing(sqlstate: str, *, every: int) -> str:
    """One of so many writes fails."""
    return _FAILING.format(sqlstate=sqlstate, condition=f"nextval('chaos_turns') % {every} = 0")


def failing_for(sqlstate: str, user_id: str) -> str:
    """Every write about that user fails."""
    return _FAILING.format(sqlstate=sqlstate, condition=f"new.user_id = '{user_id}'")
