-- Nothing that is done for one user counts the others.

-- How many placements a project has: kept by the triggers below, so that finding room reads a row per project.
alter table xata_projects add column placed integer not null default 0;
update xata_projects set placed = (
    select count(*) from xata_placements where xata_placements.project = xata_projects.project
);

create function xata_count_placement() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        update xata_projects set placed = placed - 1 where project = old.project;
    end if;
    if tg_op <> 'DELETE' then
        update xata_projects set placed = placed + 1 where project = new.project;
    end if;
    return null;
end
$$;

create trigger xata_placements_counted after insert or delete or update of project on xata_placements
for each row execute function xata_count_placement();

-- A project that comes back into the pool may have placements already.
create function xata_count_placements() returns trigger language plpgsql as $$
begin
    new.placed := (select count(*) from xata_placements where xata_placements.project = new.project);
    return new;
end
$$;

create trigger xata_projects_counted before insert on xata_projects
for each row execute function xata_count_placements();

-- The schema that the branch was born with, from its template; 0: not known, so it is looked at.
alter table xata_placements add column schema_version integer not null default 0;
