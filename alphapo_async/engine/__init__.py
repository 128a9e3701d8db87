"""The engine: what runs behind one client.

The way of a withdrawal: `AlphapoClient.withdraw`, `registry.Registry` (one flight for each payment), `flight.Flight.run` (the whole story),
`Flight._send`, `session.SessionManager.exchange`, `wire.Exchange.write`: the one place where a body leaves. `core.replies` decides what a
reply proves, `core.transitions` what that changes, `core.next_step` what would help next. `clock` explains why a "no" has a date: read it
before `flight`.

Words of the code, besides the glossary of the guide (`alphapo runbook glossary`):

- holder: the worker that has a row and may send it; *taken on*: recorded with a holder; *released*: without one again.
- arrivals: how many attempts may have arrived.
- "none": AlphaPo answered a look-up with "there is no such withdrawal".
- control: the look-up of another withdrawal, accepted later, which shows that look-ups with this key work.
- quiet exit: how a doubt ends without an acceptance (`core.transitions`, rule 3).
- date of a "no": the time until which requests are answered by it (`clock`); *redated*: recorded again with a new date.
- sticky: reported again for the same payment without a request.
- epoch: the journal's, a number that rises when the journal went back in time; *stale*: a "no" of an earlier epoch.
- late write: the recording of an acceptance that the caller has already.
- permit: the right to send one request now, given by the limiter.
"""
