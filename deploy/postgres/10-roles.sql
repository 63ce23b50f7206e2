-- PostgreSQL of compose.yaml, once, on its empty volume: a login for Usher's own tables and one for the users' databases.
\getenv usher_password POSTGRES_USHER_PASSWORD
\getenv provider_password POSTGRES_PROVIDER_PASSWORD

create role usher login password :'usher_password';
create role provider login createdb password :'provider_password';

create database usher owner usher;
-- Whoever makes users' databases has no business in the table of users.
revoke all on database usher from public;
