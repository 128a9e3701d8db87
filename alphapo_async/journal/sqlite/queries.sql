-- part row --
-- Begin each query that returns rows; `unpack` reads them in this order.
select id, body, digest, epoch_number, epoch_since, {columns} from withdrawals cross join journal

-- find --
-- Return the row of a withdrawal.
{row} where account = ? and foreign_id = ?

-- find_all --
-- Return the rows of many withdrawals of an account: a tenth of the time for each.
{row} where account = ? and foreign_id in (select value from json_each(?))

-- open --
-- Return open rows, oldest first, page by page.
{row}
where account = ? and state = 'open'
  and (created_at, id) > (?, coalesce((select id from withdrawals where account = ? and foreign_id = ?), 0))
order by created_at, id limit ?

-- fresh --
-- Return rows that a worker may claim.
{row}
where account = ? and epoch = (select epoch_number from journal) and due_at between ? and ? and due_at is not null and counted_as = 'open'
order by due_at limit ?

-- fresh_and_expired --
-- Return rows that no worker sends any more, and that no claim has taken.
{row}
where account = ? and epoch = (select epoch_number from journal) and due_at <= ? and due_at is not null and counted_as = 'open'
  and json_extract(cast(rest as text), '$.expires_at') <= ?
order by due_at limit ?

-- frozen --
-- Return rows that were open and fresh when the journal went back, and are due.
{row}
where account = ? and epoch < (select epoch_number from journal) and due_at <= ? and due_at is not null and counted_as = 'open'
  and key_fingerprint not in (select value from json_each(?))
order by epoch, due_at limit ?

-- in_doubt --
-- Return rows in doubt that are due.
{row}
where account = ? and due_at <= ? and due_at is not null and counted_as = 'unknown' and key_fingerprint not in (select value from json_each(?))
order by due_at limit ?

-- to_refresh --
-- Return settled rows that are due.
{row}
where account = ? and due_at <= ? and due_at is not null and state <> 'open' and key_fingerprint not in (select value from json_each(?))
order by due_at limit ?

-- claimed --
-- Return what a worker's claim took.
{row} where holder = ? and claim_number = ? order by id

-- claims --
-- Return the number of a worker's last claim.
select last_claim from workers where worker = ?

-- number_claim --
-- Record that a worker whose lease runs makes this claim, unless it was made before.
update workers set last_claim = ? where worker = ? and last_claim < ? and lease_until > ? and not has_ended

-- number_again --
-- Record once more that a worker made this claim.
update workers set last_claim = last_claim where worker = ? and last_claim = ?

-- unreported --
-- Return settled rows whose outcome was not handed out.
{row} where account = ? and reported = 0 and state <> 'open' order by id limit ?

-- control --
-- Return a row of this key that AlphaPo accepted and that did not exist before.
{row}
where account = ? and key_fingerprint = ? and created_at > ? and state = 'accepted' and source = 'reply' order by id desc limit ?

-- held --
-- Return rows that a worker holds.
{row} where holder = ? order by id limit ?

-- everything --
-- Return all rows, page by page.
{row} where id > ? order by id limit ?

-- earlier --
-- Return the earlier revisions of a withdrawal.
select number, body, digest from revisions where withdrawal_id = ? order by number

-- next_place --
-- Return the place of the next new withdrawal.
select coalesce(max(id), 0) + 1 from withdrawals

-- insert --
-- Record a new withdrawal.
insert into withdrawals (id, {stored}) values (?, {stored_values})

-- update --
-- Record a change of a withdrawal.
update withdrawals set {changing} where id = ?

-- correct --
-- Record the bytes of the next revision of a withdrawal.
update withdrawals set body = ?, sha256 = ?, digest = ? where id = ?

-- keep_revision --
-- Keep the bytes of the present revision of a withdrawal, before it is corrected.
insert into revisions (withdrawal_id, number, body, sha256, digest)
select id, revision, body, sha256, digest from withdrawals where id = ?

-- add_line --
-- Add a line to a history.
insert into history (withdrawal_id, {line}) values (?, {line_values})

-- count_line --
-- Record how often a line of a history was repeated.
insert into history (withdrawal_id, {line}) values (?, {line_values})
on conflict (withdrawal_id, number) do update set count = excluded.count, last_at = excluded.last_at

-- history --
-- Return the lines of a withdrawal, in order.
select {line} from history where withdrawal_id = (select id from withdrawals where account = ? and foreign_id = ?) order by number

-- has_line --
-- Return whether a history has reached this line.
select exists (
  select 1 from history join withdrawals on withdrawals.id = withdrawal_id where account = ? and foreign_id = ? and number >= ?
)

-- figures --
-- Return everything requested, for the sums; what was open when the journal went back is unknown.
select requested_currency, case when state = 'open' and epoch < epoch_number then 'unknown' else counted_as end, requested_amount
from withdrawals cross join journal where account = ?

-- forget --
-- Remove the bytes of a withdrawal.
update withdrawals set body = x'', sha256 = '', rest = ? where id = ?

-- forget_revisions --
-- Remove the bytes of its earlier revisions.
update revisions set body = x'', sha256 = '' where withdrawal_id = ?

-- forget_replies --
-- Remove AlphaPo's words from its history: the times, the kinds and what they prove stay.
update history set reply = x'', what = case when kind <> 'callback' then what when what like 'does not fit%' then 'does not fit'
  else substr(what, 1, instr(what || ';', ';') - 1) end
where withdrawal_id = ?

-- drop_revisions --
-- Remove its earlier revisions.
delete from revisions where withdrawal_id = ?

-- drop_history --
-- Remove its history.
delete from history where withdrawal_id = ?

-- bind --
-- Bind an account to its host, unless it is bound already.
insert into accounts (account, host) values (?, ?) on conflict do nothing

-- host --
-- Return the host that an account is bound to.
select host from accounts where account = ?

-- hosts --
-- Return all accounts.
select account, host from accounts order by account

-- remember --
-- Keep a text.
insert or replace into named_texts (account, name, text) values (?, ?, ?)

-- recall --
-- Return a text that is kept.
select text from named_texts where account = ? and name = ?

-- named_texts --
-- Return all texts that are kept.
select account, name, text from named_texts order by account, name

-- enlist --
-- Record a worker, the end of its lease, and the inode of the file that it locked.
insert into workers (worker, lease_until, lock_inode) values (?, ?, ?)
on conflict (worker) do update set lease_until = excluded.lease_until, lock_inode = excluded.lock_inode

-- renew --
-- Prolong a lease that still runs.
update workers set lease_until = ? where worker = ? and lease_until > ? and not has_ended

-- end_leases --
-- Record which leases are over: none of them runs again, whatever is asked with an earlier time.
update workers set has_ended = 1 where lease_until <= ? and not has_ended

-- leave --
-- End the lease of a worker that leaves.
update workers set lease_until = min(lease_until, ?), has_ended = 1 where worker = ?

-- strike --
-- Remove a worker that holds nothing any more.
delete from workers where worker = ? and not exists (select 1 from withdrawals where holder = workers.worker)

-- leases --
-- Return all leases.
select worker, lease_until, lock_inode, has_ended from workers

-- unlisted --
-- Return the holders of rows that are on no list: from one holder to the next, not row by row.
with recursive held (holder) as (
  select min(holder) from withdrawals where holder is not null
  union all
  select (select min(holder) from withdrawals where holder > held.holder) from held where holder is not null
)
select holder from held where holder is not null and holder not in (select worker from workers)

-- epoch --
-- Return the journal's epoch.
select epoch_number, epoch_since from journal

-- raise_epoch --
-- Begin the epoch of this number, for a journal that went back; once more where it has begun: that may never have been flushed.
update journal set epoch_number = ?, epoch_since = ? where epoch_number <= ?

-- part lines --
-- Return how many lines the history of a row has.
coalesce(json_extract(cast(rest as text), '$.lines'), 0)

-- part equal --
-- Hold for a row of the epoch before that the freeze concerns.
epoch + 1 = (select epoch_number from journal) and state not in ('accepted', 'failed')

-- note_equal --
-- Add a line to the history of each row that `equate_rows` counts to the present epoch.
insert into history (withdrawal_id, number, at, kind, what, reply, release, count)
select id, {lines} + 1, ?, ?, ?, x'', ?, 1 from withdrawals where {equal}

-- equate_rows --
-- Count the rows of the epoch before to the present one, each with a line more: nothing was lost between them.
update withdrawals set epoch = epoch + 1,
  rest = cast(json_remove(json_set(cast(rest as text), '$.lines', {lines} + 1), '$.counted') as blob)
where {equal}

-- equate_epochs --
-- Record that no id was forgotten when the present epoch began.
update journal set epoch_since = null

-- count_frozen --
-- Return how many rows were open when the journal went back.
select count(*) from withdrawals cross join journal where account = ? and state = 'open' and epoch < epoch_number

-- retire --
-- Close a file that was copied to PostgreSQL: every statement on a row reads `journal`, and fails from then on.
alter table journal rename to journal_before_copy
