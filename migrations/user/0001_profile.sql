-- What every user's own database starts with. Replace it with what your application needs; add 0002_… for later changes.
create table notes (
    note_id bigint generated always as identity primary key,
    body text not null,
    created_at timestamptz not null default now()
);
