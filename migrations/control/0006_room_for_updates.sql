-- An update of a user stays on its page and touches no index, as long as e-mail, username and external id stay the same.

-- A tenth of each page is left for that. Rows that are there already get it when their page is next emptied or rewritten
-- (`vacuum full`, pg_repack); nobody is locked out by this.
alter table users set (fillfactor = 90);
alter table user_guards set (fillfactor = 90);
