-- The privileges of the users of a journal, for its owner to grant: the user who made the tables.

-- payer --
-- Sends withdrawals: a worker, a backend, and the commands that change the journal.
grant usage on schema {s} to {to};
grant select, insert, update, delete on all tables in schema {s} to {to};
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
