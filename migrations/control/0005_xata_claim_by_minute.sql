-- The creations of an hour are counted by the minute: however many there are, a claim reads about sixty rows.

-- A row is a minute's creations since began_at; created_at is the last one's, so that the hour is counted rather too long.
alter table xata_creations add column began_at timestamptz not null default clock_timestamp();
alter table xata_creations add column creations integer not null default 1;

-- Everybody who counts wants the same row, so that it is not kept until a disk has it: what a crash of the server loses of
-- the count, Xata counts itself and refuses.
create or replace function xata_claim(wanted text, most bigint, out claimed bigint, out first_ends_s float8)
language plpgsql as $$
declare
    spent bigint;
begin
    perform set_config('synchronous_commit', 'off', true);
    perform pg_advisory_xact_lock(hashtextextended('usher.xata.creations.' || wanted, 0));
    delete from xata_creations where kind = wanted and created_at < now() - interval '2 hours';
    select coalesce(sum(creations), 0), extract(epoch from min(created_at) + interval '1 hour' - clock_timestamp())
    into spent, first_ends_s
    from xata_creations where kind = wanted and creations > 0 and created_at > clock_timestamp() - interval '1 hour';
    if spent >= most then
        return;
    end if;
    update xata_creations set creations = creations + 1, created_at = clock_timestamp()
    where creation_id = (
        select creation_id from xata_creations
        where kind = wanted and began_at > clock_timestamp() - interval '1 minute'
            and created_at > clock_timestamp() - interval '1 minute'
        order by created_at desc limit 1
    )
    returning creation_id into claimed;
    if claimed is null then
        insert into xata_creations (kind, began_at, created_at) values (wanted, clock_timestamp(), clock_timestamp())
        returning creation_id into claimed;
    end if;
end
$$;
