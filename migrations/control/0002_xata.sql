-- What the copies of the consumer share about Xata. Empty with any other provider.

-- One row per user's branch, from before it is asked for until it is gone: the project is chosen, and its place in it
-- taken, before the request leaves. So one name is never created in two projects, whoever dies when.
create table xata_placements (
    name text primary key,
    user_id text not null,
    project text not null,
    region text not null,
    branch_id text,
    -- How many requests to create it were begun, and how many of them have no answer: those may still take effect until
    -- unanswered_until. Before then the name must not move to another project, nor be taken for gone.
    posts integer not null default 0,
    unanswered integer not null default 0,
    unanswered_until timestamptz,
    -- When the first request for the present branch left: early 404s and the patience with it are counted from here.
    posted_at timestamptz,
    -- How often it was seen broken, and the branches that were put aside for that.
    faults integer not null default 0,
    put_aside text[] not null default '{}',
    placed_at timestamptz not null default now()
);

create index xata_placements_project on xata_placements (project);

-- The pool of projects as it was last looked at.
create table xata_projects (
    project text primary key,
    name text not null,
    -- Null until it was looked at; 0 when it is gone.
    max_branches integer,
    -- Branches that are no placements: templates (also those still to be made), branches put aside, a stranger's.
    others integer not null default 0,
    -- Regions that it has no template for and cannot get one.
    lacks text[] not null default '{}',
    -- Xata said that it is full: not asked again before then.
    full_until timestamptz,
    looked_at timestamptz,
    -- Who looks has until then; nobody else looks meanwhile.
    looking_until timestamptz
);

-- When the next request may leave (key: pace), and whether creations are paused (key: creating).
create table xata_pace (
    key text primary key,
    free_at timestamptz not null
);

-- Creations of the last hour, for the caps on a rolling hour.
create table xata_creations (
    creation_id bigint generated always as identity primary key,
    kind text not null check (kind in ('branch', 'project')),
    created_at timestamptz not null default now()
);

create index xata_creations_kind on xata_creations (kind, created_at);
