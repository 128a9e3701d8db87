----------------------------- MODULE TraceCheck -----------------------------
(* Is each trace of the simulator a behavior of the specification? Each step of a trace names an action of `Withdrawal`, its arguments and the
   row that the journal held after it. Time passes between the steps as it did there. *)
EXTENDS Traces, TLC
VARIABLES trace, place
Log == Logs[trace]
S1 == Log[place]
TraceInit == /\ trace \in 1..Len(Logs) /\ place = 1 /\ InitWith({LateOf[trace]})
Wait == /\ place <= Len(Log) /\ now < S1.at /\ now' = S1.at
        /\ bodies' = {b \in bodies : S1.at <= b.last + Quiet}
        /\ UNCHANGED <<row, worker, alphapo, call, reported, journal, calm, trace, place>>
Body(w, at) == CHOOSE b \in bodies : b.by = w /\ b.at = at
Does == CASE S1.act = "call"     -> Call
          [] S1.act = "ask"      -> Ask(S1.w, S1.x = "other")
          [] S1.act = "take"     -> Take(S1.w)
          [] S1.act = "decide"   -> Decide(S1.w)
          [] S1.act = "send"     -> Send(S1.w)
          [] S1.act = "deliver"  -> (\E b \in bodies : b.by = S1.w /\ b.at = S1.n) /\ Deliver(Body(S1.w, S1.n), S1.x)
          [] S1.act = "return"   -> Return(S1.w, S1.x)
          [] S1.act = "look up"  -> LookUp(S1.w, S1.x)
          [] S1.act = "control"  -> Control(S1.w)
          [] S1.act = "record"   -> Record(S1.w)
          [] S1.act = "release"  -> Release(S1.w)
          [] S1.act = "lapse"    -> Lapse(S1.w, S1.n)
          [] S1.act = "callback" -> Callback(S1.n, S1.x)
          [] S1.act = "cancel"   -> Cancel
          [] S1.act = "operator" -> Operator
          [] S1.act = "unfrozen" -> Unfreeze
          [] S1.act = "lag"      -> Lag
          [] S1.act = "go back"  -> GoBack
          [] OTHER -> FALSE
Go == /\ place <= Len(Log) /\ now = S1.at /\ Does /\ (S1.isChecked => row' = S1.row) /\ place' = place + 1 /\ UNCHANGED trace
(* A trace is accepted where one branch of it comes to its end; the others say where they could not go on. *)
Ends == /\ \/ place = Len(Log) + 1 /\ PrintT(<<"accepted", trace, place>>)
           \/ place <= Len(Log) /\ now = S1.at /\ ~ENABLED Go /\ PrintT(<<"stuck", trace, place>>)
        /\ place' = Len(Log) + 2 /\ UNCHANGED <<vars, trace>>
TraceNext == Wait \/ Go \/ Ends
TraceSpec == TraceInit /\ [][TraceNext]_<<vars, trace, place>>
=============================================================================
