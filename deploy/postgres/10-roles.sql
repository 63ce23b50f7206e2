-- PostgreSQL of compose.yaml, once, on its empty volume: a login for Usher's own tables and one for the users' databases.
\getenv usher_password POSTGRES_USHER_PASSWORD
\getenv provider_password POSTGRES_PROVIDER_PASSWORD

create role usher login password :'usher_password';
create role provider login createdb password :'provider_password';

-- Ids and addresses are compared as bytes: cheaper than in a language's order, which nothing here needs.
create database usher owner usher template template0 locale_provider libc lc_collate 'C';
-- Whoever makes users' databases has no business in the table of users.
revoke all on database usher from public;
