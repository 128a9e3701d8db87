-- Every statement is atomic by itself: a pooler may hand out another connection for the next one.
-- Nothing but our own names and the checked schema stands in a statement; every value is a parameter.

-- part durable --
-- Report the transaction only when it is on disk, whatever the database's default is.
(
  select set_config('synchronous_commit', case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, true)
) as synchronous

-- part here --
-- Find the journal's row only where the journal has not gone back since the worker saw it so; $1 is what `stamp_of` returned.
select from {s}.journal j, (select {s}.identity() as seen) now
where j.identity = now.seen and now.seen || ' ' || j.epoch_number = $1::text

-- part now --
-- Return the database's time, in seconds since the epoch.
extract(epoch from clock_timestamp())::float8

-- part row --
-- Begin each query that returns rows; `unpack` reads them in this order.
select id, row_version, body, digest, epoch_number, epoch_since, {columns_as_text}
from {s}.withdrawals w cross join {s}.journal

-- part rows --
-- Take the rows that were handed over: a JSON list in UTF-8, whose text no codec of a caller's pool touches.
select * from json_populate_recordset(null::{s}.withdrawals, convert_from($2, 'UTF8')::json)

-- part note --
-- Add the lines that were handed over to the histories of `made`; a repeated line changes its count alone.
insert into {s}.history (withdrawal_id, {line})
select made.id, {line}
from made join json_populate_recordset(null::{s}.history, convert_from($3, 'UTF8')::json) line on line.withdrawal_id = made.place
on conflict (withdrawal_id, number) do update set count = excluded.count, last_at = excluded.last_at

-- part between --
-- Take the revisions that were corrected before the journal recorded them.
json_populate_recordset(null::{s}.revisions, convert_from($4, 'UTF8')::json) between

-- part legible --
-- Return `rest` as the functions of PostgreSQL can read it: they refuse a NUL, which AlphaPo's words may hold.
replace(rest::text, e'\\u0000', e'\\ufffd')::json

-- part readable --
-- Hold for a row whose members of `rest` this release knows: what a newer one added may be a reason not to send.
not exists (select from json_object_keys({legible}) as member where member not in ({members}))

-- insert --
-- Record new withdrawals, each handed over under its place, with the first lines of their histories; leave out those that are known.
with asked as materialized ({rows}), added as (
  insert into {s}.withdrawals ({stored})
  select {stored_values} from asked where exists ({here}) order by account, foreign_id
  on conflict (account, foreign_id) do nothing
  returning id, account, foreign_id
), made as (
  select added.id, asked.id as place from added join asked using (account, foreign_id)
), corrected as (
  insert into {s}.revisions (withdrawal_id, number, body, sha256, digest)
  select made.id, number, body, sha256, digest from made join {between} on between.withdrawal_id = made.place
), noted as ({note})
select id, place, {durable} from made

-- update --
-- Record changes of withdrawals, locked in the order of their ids; leave out those whose row_version is another one by now.
with asked as materialized ({rows}), held as materialized (
  select w.id from {s}.withdrawals w join asked on asked.id = w.id and asked.row_version = w.row_version
  where exists ({here}) order by w.id for update of w
), kept as (
  insert into {s}.revisions (withdrawal_id, number, body, sha256, digest)
  select w.id, w.revision, w.body, w.sha256, w.digest
  from {s}.withdrawals w join held using (id) join asked using (id) where asked.body is not null
  union all
  select held.id, number, body, sha256, digest from held join {between} on between.withdrawal_id = held.id
), changed as (
  update {s}.withdrawals w set row_version = w.row_version + 1, {changing},
    body = coalesce(asked.body, w.body), sha256 = coalesce(asked.sha256, w.sha256), digest = coalesce(asked.digest, w.digest)
  from asked join held using (id) where w.id = asked.id
  returning w.id
), made as (
  select id, id as place from changed
), noted as ({note})
select id, place, {durable} from made

-- forget --
-- Remove a withdrawal's bytes and AlphaPo's words, or its whole history; leave it as it is if its row_version is another one by now.
with held as materialized (
  select id from {s}.withdrawals where id = $4 and row_version = $5 and exists ({here}) for update
), bodies as (
  update {s}.revisions r set body = '', sha256 = '' from held where r.withdrawal_id = held.id and $6
), replies as (
  update {s}.history h set reply = '',
    what = case when kind <> 'callback' then what when what like 'does not fit%' then 'does not fit' else split_part(what, ';', 1) end
  from held where h.withdrawal_id = held.id and $6
), dropped as (
  delete from {s}.revisions r using held where r.withdrawal_id = held.id and not $6
), silenced as (
  delete from {s}.history h using held where h.withdrawal_id = held.id and not $6
), changed as (
  update {s}.withdrawals w set row_version = w.row_version + 1, body = '', sha256 = '', rest = convert_from($2, 'UTF8')::json
  from held where w.id = held.id
  returning w.id
), made as (
  select id, id as place from changed
), noted as ({note})
select id, {durable} from changed

-- find --
-- Return the rows of withdrawals.
{row}
join unnest($1::text[], $2::text[]) as asked(a, f) on w.account = asked.a and w.foreign_id = asked.f

-- earlier --
-- Return the earlier revisions of withdrawals.
select withdrawal_id, number, body, digest from {s}.revisions where withdrawal_id = any($1::int8[]) order by number

-- open --
-- Return open rows, oldest first, page by page.
{row}
where account = $1 and state = 'open'
  and (created_at, id) > ($2, coalesce((select id from {s}.withdrawals where account = $1 and foreign_id = $3), 0))
order by created_at, id limit $4

-- claim --
-- Have a worker whose lease runs take fresh rows, the longest due first, without rows that another statement is just changing. It takes
-- none under a number that was used before. Nothing found: no lease, or such a number, or the journal went back.
with mine as materialized (
  update {s}.workers set last_claim = $4
  where worker = $3 and last_claim < $4 and not has_ended and lease_until > greatest($6::float8, {now}) and exists ({here})
  returning {durable}
), fresh as materialized (
  select id from {s}.withdrawals
  where account = $2 and epoch = (select epoch_number from {s}.journal) and due_at between $8 and $6 and counted_as = 'open'
    and exists (select from mine) and {readable}
  order by due_at limit $7 for update skip locked
), taken as (
  update {s}.withdrawals w
  set row_version = w.row_version + 1, holder = $3, held_since = $6, claim_number = $4, key_fingerprint = $5, due_at = null, reported = false
  from fresh where w.id = fresh.id
  returning w.*
)
select id, row_version, body, digest, epoch_number, epoch_since, {columns_as_text}
from mine left join (taken cross join {s}.journal) on true

-- claimed --
-- Return what a worker's claim took, where it was made before; an empty row where it took nothing. Its number is stored once more: it may be
-- visible before it is on every disk that has to keep it.
with mine as materialized (
  update {s}.workers set last_claim = $2 where worker = $1 and last_claim = $2 returning worker, last_claim, {durable}
)
select w.id, row_version, body, digest, epoch_number, epoch_since, {columns_as_text}
from mine left join {s}.withdrawals w on holder = worker and claim_number = last_claim cross join {s}.journal

-- begun --
-- Return the last claim of a worker whose rows may have begun.
select greatest(last_claim - 1, 0) as begun from {s}.workers where worker = $1

-- fresh_and_expired --
-- Return rows that no worker sends any more, and that no claim has taken.
{row}
where account = $1 and epoch = (select epoch_number from {s}.journal) and due_at <= $2 and counted_as = 'open'
  and ({legible} ->> 'expires_at')::float8 <= $2
order by due_at limit $3

-- frozen --
-- Return rows that were open and fresh when the journal went back, and are due; in the order of their index: else every row would be read, every second.
{row}
where account = $1 and epoch < (select epoch_number from {s}.journal) and due_at <= $2 and counted_as = 'open' and key_fingerprint <> all($3::text[])
order by epoch, due_at limit $4

-- in_doubt --
-- Return rows in doubt that are due.
{row}
where account = $1 and due_at <= $2 and counted_as = 'unknown' and key_fingerprint <> all($3::text[]) order by due_at limit $4

-- to_refresh --
-- Return settled rows that are due.
{row}
where account = $1 and due_at <= $2 and state <> 'open' and key_fingerprint <> all($3::text[]) order by due_at limit $4

-- unreported --
-- Return settled rows whose outcome was not handed out.
{row}
where account = $1 and not reported and state <> 'open' order by id limit $2

-- control --
-- Return a row of this key that AlphaPo accepted and that did not exist before.
{row}
where account = $1 and key_fingerprint = $2 and created_at > $3 and state = 'accepted' and source = 'reply'
order by created_at desc, id desc limit $4

-- held --
-- Return rows that a worker holds.
{row}
where holder = $1 order by id limit $2

-- everything --
-- Return all rows, page by page.
{row}
where id > $1 order by id limit $2

-- history --
-- Return the lines of a withdrawal, in order.
select {line} from {s}.history
where withdrawal_id = (select id from {s}.withdrawals where account = $1 and foreign_id = $2) order by number

-- histories --
-- Return the lines of withdrawals, in order.
select withdrawal_id, {line} from {s}.history where withdrawal_id = any($1::int8[]) order by withdrawal_id, number

-- sums --
-- Return the sums of everything requested; what was open when the journal went back is unknown.
select requested_currency, case when state = 'open' and epoch < epoch_number then 'unknown' else counted_as end, sum(requested_amount)::text
from {s}.withdrawals cross join {s}.journal where account = $1 group by 1, 2 order by 1

-- stay --
-- Return a row if the journal is here, and keep it here until the transaction ends.
{here} for share of j

-- look --
-- Return the database's identity, the one that the journal last saw, and the journal's epoch.
select {s}.identity() as seen, identity, epoch_number, epoch_since from {s}.journal

-- see --
-- Record the first sight of another identity, which begins another epoch unless failovers lose nothing ($3 is then 0).
update {s}.journal set identity = $1, epoch_number = epoch_number + $3::int4,
  epoch_since = case $3::int4 when 0 then epoch_since else extract(epoch from clock_timestamp()) end
where identity = $2 and {s}.identity() = $1
returning {durable}

-- raise_epoch --
-- Begin another epoch, for what the identity does not show; once, however many workers ask.
update {s}.journal set epoch_number = epoch_number + 1, epoch_since = extract(epoch from clock_timestamp())
where epoch_number = $1
returning {durable}

-- equate_epochs --
-- Count the rows of the epoch before to the present one, each with a line more: nothing was lost between them.
with equal as (
  update {s}.journal set epoch_since = null returning epoch_number
), counted as (
  update {s}.withdrawals w set epoch = w.epoch + 1, row_version = row_version + 1,
    rest = ({legible}::jsonb || jsonb_build_object('lines', coalesce(({legible} ->> 'lines')::int4, 0) + 1) - 'counted')::json
  from equal
  where w.epoch + 1 = equal.epoch_number and state not in ('accepted', 'failed')
  returning w.id, (rest ->> 'lines')::int4 as number
), noted as (
  insert into {s}.history (withdrawal_id, number, at, kind, what, reply, release, count)
  select id, number, $1::float8, $2::text, $3::text, '', $4::text, 1 from counted
)
select count(*) as count, {durable} from counted

-- count_frozen --
-- Return how many rows were open when the journal went back.
select count(*) from {s}.withdrawals w cross join {s}.journal where account = $1 and state = 'open' and epoch < epoch_number

-- set_epoch --
-- Record the epoch of a journal that was copied here.
update {s}.journal set epoch_number = $1, epoch_since = $2

-- part ended --
-- Hold for a worker that has ended by the clocks of both ($1 and the database's: one that is fast cannot end another's lease), or whose lock
-- is free. A free lock counts only where this start of the server, and this primary, have seen the worker; $2 are this process's own workers.
(
  has_ended or lease_until <= least($1::float8, {now})
  or (
    advisory_lock is not null and seen_at > extract(epoch from pg_postmaster_start_time()) and not worker = any($2::text[])
    and identity = {s}.identity()
    and not exists (
      select from pg_locks where locktype = 'advisory' and granted and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and classid::int8 = advisory_lock >> 32 and objid::int8 = advisory_lock & 4294967295
    )
  )
)

-- time --
-- Return the database's time.
select {now}

-- bind --
-- Bind an account to its host, unless it is bound already.
insert into {s}.accounts (account, host) values ($1, $2) on conflict do nothing

-- host --
-- Return the host that an account is bound to.
select host from {s}.accounts where account = $1

-- enlist --
-- Record a worker and the end of its lease.
insert into {s}.workers (worker, lease_until, advisory_lock, identity)
select $2, $3, $4::int8, {s}.identity() where exists ({here} for share of j)
on conflict (worker) do update set lease_until = excluded.lease_until, advisory_lock = excluded.advisory_lock, identity = excluded.identity
returning {durable}

-- renew --
-- Prolong a lease that still runs.
update {s}.workers set lease_until = $3, seen_at = {now}, advisory_lock = $5::int8, identity = {s}.identity()
where worker = $2 and not has_ended and lease_until > $4 and exists ({here})
returning {durable}

-- end_all --
-- End the leases of all workers that have ended, and return those: they are not prolonged any more.
update {s}.workers set has_ended = true where {ended} returning worker, lease_until, {durable}

-- end_one --
-- End the lease of one worker if it has ended.
with ended as (update {s}.workers set has_ended = true where worker = $3 and {ended} returning lease_until)
select (select lease_until from ended) as lease_until, exists (select from {s}.workers where worker = $3) as is_listed, {durable}

-- unlisted --
-- Return the holders of rows that are on no list: from one holder to the next, not row by row.
with recursive held (holder) as (
  select min(holder) from {s}.withdrawals where holder is not null
  union all
  select (select min(holder) from {s}.withdrawals w where w.holder > held.holder) from held where holder is not null
)
select holder from held where holder is not null and not exists (select from {s}.workers where worker = holder)

-- leave --
-- End the lease of a worker that leaves.
update {s}.workers set lease_until = least(lease_until, $2), has_ended = true where worker = $1 returning {durable}

-- strike --
-- Remove a worker that holds nothing any more.
delete from {s}.workers where worker = $1 and not exists (select from {s}.withdrawals where holder = $1) returning {durable}

-- remember --
-- Keep a text.
insert into {s}.named_texts (account, name, text) select $2, $3, $4 where exists ({here} for share of j)
on conflict (account, name) do update set text = excluded.text
returning {durable}

-- swap --
-- Keep a text ($5) if another one ($4, null for none) was kept until now, or if it is there already.
insert into {s}.named_texts (account, name, text)
select $2, $3, $5 where ($4::text is null or exists (select from {s}.named_texts where account = $2 and name = $3))
  and exists ({here} for share of j)
on conflict (account, name) do update set text = excluded.text where named_texts.text in ($4, $5)
returning {durable}

-- recall --
-- Return a text that is kept.
select text from {s}.named_texts where account = $1 and name = $2

-- named_texts --
-- Return all texts that are kept.
select account, name, text from {s}.named_texts order by account, name

-- hosts --
-- Return all accounts.
select account, host from {s}.accounts order by account

-- leases --
-- Return all workers.
select worker, lease_until from {s}.workers order by worker

-- load_named_texts --
-- Record the texts that another journal kept.
insert into {s}.named_texts (account, name, text) select * from unnest($1::text[], $2::text[], $3::text[])
on conflict do nothing

-- load_hosts --
-- Record the accounts that another journal kept.
insert into {s}.accounts (account, host) select * from unnest($1::text[], $2::text[])
on conflict do nothing

-- load_leases --
-- Record the workers that another journal kept; they have ended, and any of their rows may have begun.
insert into {s}.workers (worker, lease_until, has_ended, last_claim)
select worker, lease_until, true, 9223372036854775807 from unnest($1::text[], $2::float8[]) as old(worker, lease_until)
on conflict do nothing

-- server --
-- Return what the server is, and the process behind this connection.
select pg_backend_pid() as pid, current_setting('fsync') as fsync, current_setting('server_version') as version

-- cautions --
-- Return what an operator should know of the database: whether standbys follow and commits wait for them, and its identity.
select (select count(*) from pg_stat_replication) as standbys, current_setting('synchronous_standby_names') as names,
  {s}.identity() as identity

-- has_schema --
-- Return whether the schema is there.
select exists (select from pg_catalog.pg_namespace where nspname = $1)

-- has_tables --
-- Return whether the tables are there, by the catalogue: what a session remembers of names may be older than a transaction it waited for.
select exists (select from pg_catalog.pg_tables where schemaname = $1 and tablename = 'journal')

-- version --
-- Return the version of the tables, and who may use them.
select version, readable_from, needs_release from {s}.journal

-- set_version --
-- Record the version of the tables after a migration.
update {s}.journal set version = $1, readable_from = $2, needs_release = $3

-- privileges --
-- Return what the user lacks of the privileges that a journal needs in a schema.
select 'USAGE' as privilege, 'schema' as kind, nspname as name from pg_catalog.pg_namespace
where nspname = $1 and not pg_catalog.has_schema_privilege(oid, 'USAGE')
union all
select one.privilege, 'table', relname from pg_catalog.pg_class
cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) as one (privilege)
where relnamespace = (select oid from pg_catalog.pg_namespace where nspname = $1) and relkind = 'r'
and not pg_catalog.has_table_privilege(oid, one.privilege)
union all
select 'EXECUTE', 'function', proname from pg_catalog.pg_proc
where pronamespace = (select oid from pg_catalog.pg_namespace where nspname = $1)
and not pg_catalog.has_function_privilege(oid, 'EXECUTE')
