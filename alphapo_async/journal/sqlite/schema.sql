-- Times are seconds since the epoch. The version of the tables is the file's `user_version`.

-- tables --
-- Make the tables.
create table accounts (
  account text primary key,
  host text not null
) without rowid;

create table journal (
  one integer primary key check (one = 1),
  readable_from integer not null,
  needs_release text not null,
  epoch_number integer not null,
  epoch_since real
);
insert into journal values (1, {readable_from}, '{needs_release}', 0, null);

create table workers (
  worker text primary key,
  lease_until real not null,
  lock_inode integer,
  last_claim integer not null default 0,
  has_ended integer not null default 0
) without rowid;

create table withdrawals (
  id integer primary key,
  account text not null,
  foreign_id text not null,
  state text not null,
  counted_as text not null,
  requested_currency text not null,
  requested_amount text not null,
  created_at real not null,
  settled_at real,
  due_at real,
  reported integer not null,
  holder text,
  held_since real not null,
  claim_number integer not null,
  key_fingerprint text not null,
  source text,
  alphapo_id text,
  alphapo_status text,
  revision integer not null,
  epoch integer not null,
  rest text not null,
  body blob not null,
  sha256 text not null,
  digest text not null
);
create unique index withdrawals_by_foreign_id on withdrawals (account, foreign_id);
create index withdrawals_open on withdrawals (account, created_at, id) where state = 'open';
create index withdrawals_fresh on withdrawals (account, epoch, due_at) where due_at is not null and counted_as = 'open';
create index withdrawals_in_doubt on withdrawals (account, due_at) where due_at is not null and counted_as = 'unknown';
create index withdrawals_to_refresh on withdrawals (account, due_at) where due_at is not null and state <> 'open';
create index withdrawals_held on withdrawals (holder, id) where holder is not null;
create index withdrawals_unreported on withdrawals (account, id) where reported = 0 and state <> 'open';

create table revisions (
  withdrawal_id integer not null references withdrawals (id),
  number integer not null,
  body blob not null,
  sha256 text not null,
  digest text not null,
  primary key (withdrawal_id, number)
) without rowid;

create table history (
  withdrawal_id integer not null references withdrawals (id),
  number integer not null,
  at real not null,
  kind text not null,
  what text not null,
  worker text,
  http_status integer,
  reply blob not null,
  release text not null,
  count integer not null,
  last_at real,
  primary key (withdrawal_id, number)
) without rowid;

create table named_texts (
  account text not null,
  name text not null,
  text text not null,
  primary key (account, name)
) without rowid;
