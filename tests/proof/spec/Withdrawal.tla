----------------------------- MODULE Withdrawal -----------------------------
(* One withdrawal under one foreign_id: the journal's row, the workers, AlphaPo, and what goes wrong between them. Times are ticks; 0 means never.
   Where a name of `core/row.py` is shorter here: doubt = doubt_since, until = could_leave_until, taken = look_ups_only, owes = needs_look_up,
   stays = stays_open, forget = earlier_request_possible, since = held_since, made = created_at. "no" stands for rejected, not sent and key refused.  *)
EXTENDS Integers, FiniteSets, TLC
CONSTANTS Workers, Quiet, Lease, Keep, Attempt, LateTimes, MaxTime, MaxBodies, MaxRevisions, MaxAccepted, MaxDepth, Faults, Mistake
VARIABLES now, row, worker, bodies, alphapo, call, reported, journal, calm
vars == <<now, row, worker, bodies, alphapo, call, reported, journal, calm>>
None == "none"
Never == 1000000000                      \* a look-up that shows a withdrawal so late never shows it
Fault(f) == f \in Faults /\ ~calm
Wrong(m) == Mistake = m
Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b
NoRow == [state |-> "none", rev |-> 0, holder |-> None, since |-> 0, made |-> 0, doubt |-> 0, until |-> 0, arrivals |-> 0, refused |-> "never",
          control |-> FALSE, owes |-> FALSE, taken |-> FALSE, stays |-> FALSE, ended |-> FALSE, knows |-> 0, epoch |-> 0, forget |-> FALSE]
Idle(ends) == [pc |-> "idle", rev |-> 0, epoch |-> 0, began |-> 0, until |-> 0, ends |-> ends, reply |-> "", n |-> 0]

(* ---- What the fields of a row mean together (core/row.py) ------------------------------------------------------------------------- *)
IsOpen   == row.state = "open"
Frozen   == IsOpen /\ row.epoch < journal.epoch                              \* open when the journal went back
Stale    == row.state = "no" /\ row.epoch < journal.epoch                    \* a "no" of before the journal went back
InDoubt(r) == r.doubt # 0 \/ r.taken \/ r.refused # "never" \/ r.forget
QuietEnds  == row.until + Quiet                                              \* from then on no body sent so far can be accepted (A3)
LetGo(r) == [r EXCEPT !.holder = None, !.since = 0]
Settle(r, s) == [LetGo(r) EXCEPT !.state = s, !.owes = FALSE, !.refused = "never", !.control = FALSE]
(* What was sent between these times may have arrived. *)
Doubt(r, from, to, many) ==
  IF r.state \in {"accepted", "failed"} THEN r
  ELSE [r EXCEPT !.state = "open", !.doubt = IF @ = 0 THEN from ELSE Min(@, from), !.until = Max(@, to), !.arrivals = Min(2, @ + many),
                 !.owes = TRUE, !.refused = "never", !.control = FALSE]
(* A worker's attempt may have arrived. A "no" that was settled meanwhile may have been relied on: what its doubt covered is no news, and what
   it did not cover opens it again for look-ups only. *)
DoubtOf(r, from, to) ==
  IF r.state # "no" \/ Wrong("a late doubt opens a no") THEN Doubt(r, from, to, 1)
  ELSE IF to <= r.until THEN r ELSE [Doubt(r, from, to, 1) EXCEPT !.taken = TRUE]
(* AlphaPo shows its n-th withdrawal under this foreign_id. An end counts at once only where no second attempt may still arrive, since a
   cancelled withdrawal may free the id: otherwise a look-up that began after the quiet time must show it. *)
Shown(r, n, status, isQuiet, by) ==
  LET r1 == IF r.state = "open" /\ r.holder \notin {None, by}
            THEN [r EXCEPT !.arrivals = Min(2, @ + 1), !.until = Max(@, now + Attempt)] ELSE r IN
  IF r.knows = n /\ status = "live" /\ (r.state = "failed" \/ r.ended) THEN r                    \* older than what is known
  ELSE IF status = "live" THEN [Settle(r1, "accepted") EXCEPT !.knows = n, !.ended = FALSE]
  ELSE IF r.knows \notin {0, n} THEN (IF r.state = "open" THEN [r EXCEPT !.taken = TRUE, !.owes = TRUE] ELSE r)
  ELSE IF r.state # "failed" /\ r1.arrivals >= 2 /\ ~isQuiet /\ ~Wrong("an end settles at once")
       THEN [r EXCEPT !.state = "open", !.taken = TRUE, !.owes = FALSE, !.ended = TRUE, !.knows = n]
  ELSE [Settle(r1, "failed") EXCEPT !.knows = n, !.ended = FALSE]
IsOld == row.doubt # 0 /\ now + Attempt + Quiet > row.doubt + Keep                     \* AlphaPo may free the id before a body arrives (A2)
(* What would help a row next (core/next_step.py). *)
Step == IF ~IsOpen THEN "done"
        ELSE IF row.ended /\ row.arrivals >= 2 /\ ~row.owes /\ now <= QuietEnds THEN "wait"
        ELSE IF row.owes \/ row.taken \/ (Frozen /\ ~Wrong("frozen rows are sent")) THEN "look up"
        ELSE IF row.doubt = 0 THEN "send"
        ELSE IF now < row.until /\ ~Wrong("two workers send at a time") THEN "wait"     \* a silent worker may send until its lease ends
        ELSE IF row.refused # "never" /\ now < QuietEnds THEN "wait"
        ELSE IF row.refused = "late" THEN (IF row.control \/ now > row.doubt + Keep THEN "look up" ELSE "control")
        ELSE IF ~IsOld \/ Wrong("sent when the id may be free") THEN "send" ELSE "look up"

Helps == Step = "send" \/ (Step = "look up" /\ ~row.taken /\ ~Frozen /\ ~IsOld) \/ (Step = "control" /\ now - alphapo.late > QuietEnds)

(* ---- Callers ------------------------------------------------------------------------------------------------------------------------ *)
(* A caller may rely on a recorded "no" from the moment it stands there, until a caller asks again or the operator unfreezes the row. *)
Report == /\ reported' = (row'.state = "failed" \/ (row'.state = "no" /\ row'.epoch = journal'.epoch) \/ (reported /\ ~(Frozen /\ row'.epoch = journal.epoch /\ row'.state = "open")))
          /\ call' = (IF call = "new" /\ row.state # "no" /\ row'.state = "no" THEN "old" ELSE call) /\ UNCHANGED <<now, calm>>
(* A caller asks for the payment. The journal may see that later: a "no" that is recorded meanwhile makes the call an old one. *)
Call == call = "none" /\ call' = "new" /\ UNCHANGED <<now, row, worker, bodies, alphapo, reported, journal, calm>>
Held(r, w) == IF w = None THEN r ELSE [r EXCEPT !.holder = w, !.since = now]
Fresh(w, rev, isBack) ==       \* in a journal that went back the id may have been sent before: it is looked up first
  Held([NoRow EXCEPT !.state = "open", !.rev = rev, !.made = IF "back" \in Faults THEN now ELSE 0, !.stays = (w = None), !.epoch = journal.epoch, !.forget = isBack,
                     !.owes = isBack, !.arrivals = IF isBack THEN 2 ELSE 0, !.until = IF isBack THEN now ELSE 0], w)
Thawed(r) == IF Frozen THEN [Doubt(r, r.made, journal.since, 2) EXCEPT !.epoch = journal.epoch] ELSE r
TakenOn(r, w) == [Held(r, w) EXCEPT !.stays = TRUE, !.owes = @ \/ InDoubt(r)]
(* The journal records the call: for a worker that takes the row on at once, or (None) for any worker later.
   A new revision of the payment follows only a "no"; a "no" that is as new as the call answers it. *)
Asked(w, isOther) ==
  CASE row.state = "none" -> Fresh(w, 1, journal.epoch > 0)
    [] row.state = "open" /\ ~isOther -> IF w # None /\ row.holder = None THEN TakenOn(Thawed(row), w)
                                          ELSE IF w = None THEN [Thawed(row) EXCEPT !.stays = TRUE] ELSE Thawed(row)
    [] row.state = "open" /\ isOther /\ Wrong("corrected in doubt") -> [row EXCEPT !.rev = @ + 1]
    [] row.state = "no" /\ (call = "new" \/ Stale \/ Wrong("an old call undoes a no")) ->
         [Fresh(w, IF isOther THEN row.rev + 1 ELSE row.rev, Stale) EXCEPT !.made = row.made, !.knows = row.knows]
    [] OTHER -> row
Ask(w, isOther) ==
  /\ call # "none" /\ (w # None => worker[w].pc = "idle") /\ (isOther => row.rev < MaxRevisions)
  /\ row' = Asked(w, isOther) /\ call' = "none"
  /\ worker' = IF w # None /\ row'.holder = w THEN [worker EXCEPT ![w].ends = now + Lease] ELSE worker
  /\ reported' = (reported /\ (row'.state # "open" \/ (call = "old" /\ ~Frozen /\ ~Stale))) /\ UNCHANGED <<now, bodies, alphapo, journal, calm>>

(* ---- Workers ------------------------------------------------------------------------------------------------------------------------ *)
(* A worker takes an open row on by itself. A frozen row is taken on, too: to look it up. *)
Take(w) == /\ IsOpen /\ row.holder = None /\ worker[w].pc = "idle" /\ (calm => Step # "wait")
           /\ row' = TakenOn(row, w) /\ worker' = [worker EXCEPT ![w].ends = now + Lease] /\ UNCHANGED <<bodies, alphapo, journal>> /\ Report
(* It decides to send: its lease runs, and the planner says so. Then it may be paused: the body leaves later, within the lease. *)
Decide(w) == /\ row.holder = w /\ worker[w].pc = "idle" /\ Step = "send"
             /\ worker' = [worker EXCEPT ![w] = [Idle(now + Lease) EXCEPT !.pc = "ready", !.rev = row.rev, !.epoch = journal.epoch]]
             /\ UNCHANGED <<row, bodies, alphapo, journal>> /\ Report
Send(w) == /\ worker[w].pc = "ready" /\ (now < worker[w].ends \/ Wrong("sent after the lease")) /\ Cardinality(bodies) < MaxBodies
           /\ bodies' = bodies \cup {[by |-> w, at |-> now, rev |-> worker[w].rev,
                                     last |-> IF worker[w].epoch < journal.epoch /\ ~Wrong("quiet from the sending") THEN Min(now, journal.since) ELSE now]}
           /\ worker' = [worker EXCEPT ![w].pc = "sent", ![w].began = now] /\ UNCHANGED <<row, alphapo, journal>> /\ Report
(* The attempt ends for the worker: with AlphaPo's reply, or with the reply to a copy of it that a proxy made, or with nothing that proves
   anything. *)
Return(w, reply) ==
  /\ worker[w].pc = "sent" /\ reply # ""
  /\ \/ reply = worker[w].reply \/ (reply = "taken" /\ alphapo.has # "no" /\ ~calm)
     \/ (reply = "nothing" /\ (calm => worker[w].reply = "" /\ \A b \in bodies : b.by # w))
  /\ worker' = [worker EXCEPT ![w].pc = "answered", ![w].until = now, ![w].reply = reply] /\ UNCHANGED <<row, bodies, alphapo, journal>> /\ Report
(* It asks by foreign_id: AlphaPo shows what it accepted `late` ticks ago or earlier. "None" proves nothing. *)
LookUp(w, reply) ==
  /\ worker[w].pc = "idle" /\ row.state # "none" /\ ((row.holder = w /\ Step = "look up") \/ Fault("others"))
  /\ LET seen == alphapo.has # "no" /\ now >= alphapo.since + alphapo.late IN
     (reply \in {alphapo.has, "live"} /\ seen) \/ (reply = "none" /\ ~seen) \/ (reply = "no answer" /\ Fault("others"))
  /\ worker' = [worker EXCEPT ![w].pc = "answered", ![w].rev = row.rev, ![w].began = now, ![w].n = alphapo.n, ![w].reply = reply]
  /\ UNCHANGED <<row, bodies, alphapo, journal>> /\ Report
(* The control: with the same key, a look-up shows another withdrawal that was accepted after the quiet time. *)
Control(w) == /\ worker[w].pc = "idle" /\ row.holder = w /\ Step = "control"
              /\ now - alphapo.late > IF Wrong("any control counts") THEN row.until ELSE QuietEnds
              /\ worker' = [worker EXCEPT ![w].pc = "answered", ![w].began = now, ![w].reply = "control"]
              /\ UNCHANGED <<row, bodies, alphapo, journal>> /\ Report
(* It records what it has seen, maybe much later (core/transitions.py). Only a holder's "no" counts; doubt and acceptances count from anyone. *)
Learned(w, r) == LET me == worker[w]   isHolder == r.state = "open" /\ (r.holder = w \/ Wrong("a stale no counts")) IN
  CASE me.reply = "accepted" -> Shown([r EXCEPT !.arrivals = IF r.state \in {"accepted", "failed"} THEN @ ELSE Min(2, @ + 1),
                                                !.until = IF r.state \in {"accepted", "failed"} THEN @ ELSE Max(@, me.until)], me.n, "live", FALSE, w)
    [] me.reply = "nothing"  -> DoubtOf(r, me.began, me.until)
    [] me.reply = "taken" /\ isHolder -> [r EXCEPT !.taken = TRUE, !.owes = TRUE, !.refused = "never", !.control = FALSE]
    [] me.reply = "refused" /\ isHolder ->
         IF (r.doubt = 0 /\ ~r.taken /\ ~r.forget) \/ Wrong("a refusal ends doubt") THEN Settle(r, "no")
         ELSE [r EXCEPT !.refused = IF me.began >= r.until + Quiet \/ Wrong("no quiet time") THEN "late" ELSE "early", !.owes = TRUE, !.control = FALSE]
    [] me.reply = "key" /\ isHolder -> IF (InDoubt(r) \/ r.stays) /\ ~Wrong("a refused key ends doubt") THEN r ELSE Settle(r, "no")
    [] me.reply \in {"live", "ended"} -> Shown(r, me.n, me.reply, me.began > r.until + Quiet, w)
    [] me.reply = "none" /\ r.state = "no" -> [r EXCEPT !.epoch = journal.epoch]       \* AlphaPo confirms a "no" of before the journal went back
    [] me.reply = "none" /\ r.state = "open" ->
         IF Wrong("a none settles") \/ (r.refused # "never" /\ ~r.taken /\ r.holder = w /\
            (r.doubt = 0 \/ ((r.control \/ (Wrong("no control") /\ r.refused = "late")) /\ (now <= r.doubt + Keep \/ Wrong("an old none counts")))))
         THEN Settle([r EXCEPT !.forget = FALSE], "no") ELSE [r EXCEPT !.owes = FALSE, !.forget = FALSE]
    [] me.reply = "no answer" /\ r.state = "open" -> [r EXCEPT !.owes = r.refused # "never" \/ r.taken]
    [] me.reply = "control" /\ isHolder /\ ~r.taken /\ r.refused = "late" -> [r EXCEPT !.control = TRUE, !.owes = TRUE]
    [] OTHER -> r
(* A row that the journal has forgotten is recorded again, as one of before: frozen. *)
Again(w) == Doubt([NoRow EXCEPT !.state = "open", !.rev = worker[w].rev, !.holder = w, !.since = worker[w].began, !.made = worker[w].began,
                                !.epoch = journal.epoch - 1], journal.since, journal.since, 2)
Record(w) == /\ worker[w].pc = "answered" /\ row' = Learned(w, IF row.state = "none" THEN Again(w) ELSE row)
             /\ worker' = [worker EXCEPT ![w] = Idle(IF row'.holder = w THEN worker[w].ends ELSE 0)]
             /\ UNCHANGED <<bodies, alphapo, journal>> /\ Report
(* It lets go of the row, which stays open; or, without doubt, settles a call's own row as not sent, and an enqueued one once its time is over. *)
Release(w) == /\ row.holder = w /\ worker[w].pc = "idle" /\ IsOpen /\ (calm => ~Helps)
              /\ \/ row' = LetGo(row)
                 \/ row' = Settle(row, "no") /\ ((~InDoubt(row) /\ (row.stays => ~calm)) \/ Wrong("letting go settles"))
              /\ worker' = [worker EXCEPT ![w] = Idle(0)] /\ UNCHANGED <<bodies, alphapo, journal>> /\ Report
(* The journal's lease of the holder is over, or its connection is gone: the row is free, and in doubt until the lease's end. The worker is
   dead, or only cut off or paused: then it may still send within its lease, and records later what it saw. *)
Lapse(w, until) ==
  /\ Fault("lapse") /\ IsOpen /\ row.holder = w
  /\ row' = IF Wrong("a lapse leaves no doubt") THEN LetGo(row) ELSE LetGo(Doubt(row, row.since, until, 2))
  /\ (worker' = [worker EXCEPT ![w] = Idle(0)] \/ (worker[w].pc # "idle" /\ worker' = worker)) /\ UNCHANGED <<bodies, alphapo, journal>> /\ Report
Forget(w) == /\ worker[w].pc = "ready" /\ (row.holder # w \/ ~IsOpen) /\ (now >= worker[w].ends \/ calm)    \* a paused worker finds out, and sends nothing
             /\ worker' = [worker EXCEPT ![w] = Idle(0)] /\ UNCHANGED <<row, bodies, alphapo, journal>> /\ Report

(* ---- AlphaPo ------------------------------------------------------------------------------------------------------------------------ *)
(* A body arrives, up to `Quiet` after it left (A3), also when its sender has long given up. The id is unique (A1): AlphaPo blames it, or repeats
   its answer; a cancelled withdrawal may free it. AlphaPo may refuse before it looks at the id, blame the id, refuse the key, or throttle. *)
Deliver(b, reply) ==
  /\ b \in bodies /\ bodies' = bodies \ {b}
  /\ reply = "accepted" => alphapo.has = "live" \/ alphapo.n < MaxAccepted
  /\ reply = "taken" => alphapo.has # "no" \/ Fault("blame")
  /\ reply = "key" => Fault("key")
  /\ reply = "unsent" => Fault("throttle")
  /\ alphapo' = IF reply # "accepted" \/ alphapo.has = "live" THEN alphapo
                ELSE [alphapo EXCEPT !.has = "live", !.n = @ + 1, !.since = now, !.rev = b.rev, !.paid = @ + 1]
  /\ worker' = IF worker[b.by].pc = "sent" /\ worker[b.by].began = b.at
               THEN [worker EXCEPT ![b.by].reply = reply, ![b.by].n = alphapo'.n] ELSE worker
  /\ UNCHANGED <<row, journal>> /\ Report
Cancel == Fault("cancel") /\ alphapo.has = "live" /\ alphapo' = [alphapo EXCEPT !.has = "ended", !.paid = @ - 1] /\ UNCHANGED <<row, worker, bodies, journal>> /\ Report
(* It frees the id, but not within `Keep` (A2). *)
Free == /\ Fault("free") /\ alphapo.has # "no" /\ now > alphapo.since + Keep
        /\ alphapo' = [alphapo EXCEPT !.has = "no"] /\ UNCHANGED <<row, worker, bodies, journal>> /\ Report
(* A callback shows what AlphaPo has, maybe as it was some time ago. It counts for any row, with any holder. *)
Callback(n, status) == /\ Fault("callback") /\ row.state # "none" /\ n <= alphapo.n /\ (status = "ended" => n < alphapo.n \/ alphapo.paid = 0)
                       /\ row' = Shown(row, n, status, FALSE, None) /\ UNCHANGED <<worker, bodies, alphapo, journal>> /\ Report

(* ---- The operator, and a journal that goes back -------------------------------------------------------------------------------------- *)
(* The operator looks at AlphaPo's books and records what they say, once the quiet time is over: then nothing is on its way any more. *)
InBooks == IF alphapo.has = "live" THEN "accepted" ELSE "no"
IsClear == row.holder = None /\ (row.until = 0 \/ now > QuietEnds \/ Wrong("the operator does not wait"))
Operator == /\ Fault("operator") /\ IsOpen /\ IsClear /\ alphapo.has # "ended" /\ (InBooks = "no" => alphapo.paid = 0)
            /\ row' = [Settle(row, InBooks) EXCEPT !.epoch = IF InBooks = "no" THEN journal.epoch ELSE @, !.ended = FALSE]
            /\ UNCHANGED <<worker, bodies, alphapo, journal>> /\ Report
(* After the journal went back: AlphaPo's books do not have the row, and it is wanted. It is open again with nothing in doubt. *)
Unfreeze == /\ Fault("operator") /\ Frozen /\ IsClear /\ ~row.ended /\ alphapo.has = "no" /\ alphapo.paid = 0
            /\ row' = [row EXCEPT !.epoch = journal.epoch, !.forget = TRUE, !.doubt = 0, !.arrivals = 2, !.taken = FALSE, !.owes = FALSE,
                                  !.refused = "never", !.control = FALSE]
            /\ UNCHANGED <<worker, bodies, alphapo, journal>> /\ Report
(* A standby stops following the journal; later it takes the journal's place, and what was recorded in between is gone. Every open row is
   frozen, and in doubt. A worker that has not seen that may send within its lease: A3 covers this time, as it covers a pause. *)
Lag == /\ Fault("back") /\ journal.epoch = 0 /\ ~journal.lags /\ journal' = [journal EXCEPT !.lags = TRUE, !.copy = row]
       /\ UNCHANGED <<row, worker, bodies, alphapo>> /\ Report
GoBack == /\ journal.lags /\ ~calm
          /\ journal' = [epoch |-> 1, since |-> now, lags |-> FALSE, copy |-> NoRow, forgot |-> row # journal.copy /\ (journal.copy.state # "open" \/ journal.copy.rev # row.rev)]
          /\ row' = IF journal.copy.state = "open" THEN Doubt(journal.copy, now, now, 2) ELSE journal.copy
          /\ UNCHANGED <<worker, bodies, alphapo>> /\ Report

(* ---- Time ---------------------------------------------------------------------------------------------------------------------------- *)
(* Time has no end: at `MaxTime` everything grows older instead, and what is older than any rule asks for counts as long ago. *)
Older(t) == IF now < MaxTime \/ t <= 1 THEN t ELSE t - 1
OlderRow(r) == [r EXCEPT !.since = Older(@), !.made = Older(@), !.doubt = Older(@), !.until = Older(@)]
Busy == (Helps /\ row.holder \in Workers \cup {None}) \/ \E w \in Workers : worker[w].pc # "idle"
Tick == /\ (calm => ~Busy)                                \* once faults have stopped, workers are faster than the clock
        /\ now' = Min(MaxTime, now + 1) /\ row' = OlderRow(row)
        /\ worker' = [w \in Workers |-> [worker[w] EXCEPT !.began = Older(@), !.until = Older(@), !.ends = Older(@)]]
        /\ bodies' = {[b EXCEPT !.at = Older(@), !.last = Older(@)] : b \in {b \in bodies : now + 1 <= b.last + Quiet}}
        /\ alphapo' = [alphapo EXCEPT !.since = Older(@)]
        /\ journal' = [journal EXCEPT !.since = Older(@), !.copy = OlderRow(@)]
        /\ UNCHANGED <<call, reported, calm>>
Stop == "stop" \in Faults /\ ~calm /\ calm' = TRUE /\ UNCHANGED <<now, row, worker, bodies, alphapo, call, reported, journal>> /\ Report

InitWith(lateTimes) ==
        /\ now = 1 /\ row = NoRow /\ worker = [w \in Workers |-> Idle(0)] /\ bodies = {} /\ call = "none" /\ reported = FALSE /\ calm = FALSE
        /\ alphapo \in {[has |-> "no", n |-> 0, since |-> 0, rev |-> 0, paid |-> 0, late |-> late] : late \in lateTimes}
        /\ journal = [epoch |-> 0, since |-> 0, lags |-> FALSE, copy |-> NoRow, forgot |-> FALSE]
Init == InitWith(LateTimes)
Attempts(w) == Take(w) \/ Decide(w) \/ Send(w) \/ (\E reply \in {worker[w].reply, "taken", "nothing"} : Return(w, reply)) \/ Forget(w)
Looks(w)    == (\E reply \in {alphapo.has, "live", "none", "no answer"} : LookUp(w, reply)) \/ Control(w)
Work(w)     == Attempts(w) \/ Looks(w) \/ Record(w) \/ Release(w)
Arrivals    == \E b \in bodies, reply \in {"accepted", "refused", "taken", "key", "unsent"} : Deliver(b, reply)
Callbacks   == \E n \in 1..alphapo.n, status \in {"live", "ended"} : Callback(n, status)
Next == \/ Call \/ \E w \in Workers \cup {None}, isOther \in BOOLEAN : Ask(w, isOther)
        \/ \E w \in Workers : Work(w) \/ Lapse(w, IF Wrong("a lapse ends at once") THEN row.since ELSE worker[w].ends)
        \/ Arrivals \/ Cancel \/ Free \/ Callbacks \/ Operator \/ Unfreeze \/ Lag \/ GoBack \/ Tick \/ Stop
Spec == Init /\ [][Next]_vars

Short == TLCGet("level") < MaxDepth                                         \* bounds a run

(* ---- What must hold (the promise's numbers) ------------------------------------------------------------------------------------------ *)
P1 == alphapo.paid <= 1                                                       \* money moves at most once
P2 == row.state # "none" /\ ~journal.forgot =>                                 \* nothing of an earlier revision is on its way, or was accepted
        (\A b \in bodies : b.rev = row.rev) /\ (alphapo.has = "live" => alphapo.rev = row.rev)
P2Step == [][row'.rev > row.rev /\ row.rev # 0 => row.state = "no"]_vars
(* No money has moved where a caller may rely on a "no", for as long as the journal remembers the withdrawal. *)
P4 == reported /\ ~journal.forgot => alphapo.paid = 0
(* A doubt ends with an acceptance, with the quiet exit, or by the operator: never with a refusal, a "none" or a release alone. *)
P5 == [][IsOpen /\ row.doubt # 0 /\ row'.state = "no" => (row.control /\ row.refused = "late") \/ Operator \/ GoBack]_vars
(* A body of a frozen row leaves only where its worker decided that before the journal went back. *)
FrozenStays == [][Frozen /\ bodies' \ bodies # {} => \A b \in bodies' \ bodies : worker[b.by].epoch < journal.epoch]_vars
(* Once faults have stopped, every row settles, or it is listed as open with its reason: the journal went back, the id is blamed or AlphaPo
   ended one of several attempts, or the doubt is too old to be sent. *)
Fair == /\ WF_vars(Tick) /\ \A w \in Workers : WF_vars(Work(w))
        /\ WF_vars(Arrivals)
FairSpec == Spec /\ Fair
Settles == calm ~> (~IsOpen \/ Frozen \/ row.taken \/ IsOld)
=============================================================================
