-- A creation is counted against the rolling hour in one round trip.

-- Who counts waits for the others to have counted: each statement in here sees what was committed by then.
create function xata_claim(wanted text, most bigint, out claimed bigint, out first_ends_s float8)
language plpgsql as $$
declare
    spent bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('usher.xata.creations.' || wanted, 0));
    delete from xata_creations where kind = wanted and created_at < now() - interval '2 hours';
    select count(*), extract(epoch from min(created_at) + interval '1 hour' - clock_timestamp())
    into spent, first_ends_s
    from xata_creations where kind = wanted and created_at > clock_timestamp() - interval '1 hour';
    if spent < most then
        insert into xata_creations (kind, created_at) values (wanted, clock_timestamp())
        returning creation_id into claimed;
    end if;
end
$$;
