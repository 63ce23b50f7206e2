-- What Usher's own database holds.

-- The synced users: live ones only. Applications may hang foreign keys on user_id; a deletion cascades as they declare.
create table users (
    user_id text primary key,
    -- Neither e-mail nor username is unique: two users may hold one value for a moment while events are in flight.
    email text,
    username text not null,
    first_name text,
    last_name text,
    photo_url text,
    phone_number text,
    external_id text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    synced_at timestamptz not null default now()
);

create index users_email on users (email);
create index users_username on users (username);
create index users_external_id on users (external_id) where external_id is not null;

-- One row per user that was ever seen: it orders the user's events by (deleted, version, event_id). The row of a deleted
-- user is a tombstone; it holds no personal data.
create table user_guards (
    user_id text primary key,
    deleted boolean not null,
    version bigint not null,
    event_id text not null,
    event_time timestamptz not null,
    settled_at timestamptz not null default now()
);

-- One database per user, and how far it is. The state carries the wish too: held, deleting and deleted say that the user
-- is gone, all others that the user has a database or is to get one. A row in state deleted is a tombstone.
create table databases (
    user_id text primary key,
    provider text not null,
    project text,
    -- Made from user_id alone, so as unique as that. No index says so: two first events at once would trip over it.
    name text not null,
    provider_id text,
    region text,
    host text,
    state text not null check (state in (
        'requested', 'creating', 'ready', 'held', 'deleting', 'deleted', 'quota_blocked', 'failed'
    )),
    reason text,
    -- How often the creation was begun: the first time, and again after each failure. Waiting is none.
    attempts integer not null default 0,
    schema_version integer not null default 0,
    -- The event that last changed what is wanted: when it comes again, it changes nothing.
    event_id text not null,
    requested_at timestamptz not null default now(),
    ready_at timestamptz,
    announced_at timestamptz,
    erase_after timestamptz,
    -- When an operator last cancelled the deletion: a deletion that happened before then is void.
    cancelled_at timestamptz,
    deleted_at timestamptz,
    changed_at timestamptz not null default now(),
    check ((state = 'held') = (erase_after is not null)),
    check (state <> 'ready' or ready_at is not null)
);

create index databases_state on databases (state, changed_at);
