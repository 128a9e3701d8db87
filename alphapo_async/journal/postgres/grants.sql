-- The privileges of the users of a journal, for its owner to grant: the user who made the tables. After a migration the owner grants them again.

-- payer --
-- Sends withdrawals: a worker, a backend, and the commands that change the journal. It removes no row and no line of a history.
grant usage on schema {s} to {to};
grant select on all tables in schema {s} to {to};
grant insert on {s}.withdrawals, {s}.revisions, {s}.history, {s}.accounts, {s}.named_texts, {s}.workers to {to};
grant update on {s}.withdrawals, {s}.journal, {s}.named_texts, {s}.workers to {to};
grant update (count, last_at) on {s}.history to {to};
grant delete on {s}.workers to {to};
grant execute on all functions in schema {s} to {to};

-- keeper --
-- Removes what is no longer needed: `alphapo journal redact` and `alphapo journal prune`. It may do whatever a payer may.
grant usage on schema {s} to {to};
grant select, insert, update on all tables in schema {s} to {to};
grant delete on {s}.workers, {s}.revisions, {s}.history to {to};
grant execute on all functions in schema {s} to {to};

-- enqueuer --
-- Records withdrawals for workers with `enqueue_statement`; reads and writes no table.
grant usage on schema {s} to {to};
grant execute on function {s}.enqueue(bytea) to {to};

-- reader --
-- Reads rows, histories and totals.
grant usage on schema {s} to {to};
grant select on all tables in schema {s} to {to};
grant execute on function {s}.identity() to {to};
