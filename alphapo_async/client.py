"""AlphapoClient: pays withdrawals, each exactly once, and knows whether money moved."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from alphapo_async.core.codec import AMOUNT_FORMATS, AmountFormat, encode_body, read_balances
from alphapo_async.core.errors import AlphapoUnavailable, ConfigurationError, JournalError
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import Asked, Attempt, Evidence, LookedUp, Revision
from alphapo_async.core.models import Totals, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import Found, NoAnswer, NoneFound, NoReply, Reply, judge_look_up
from alphapo_async.core.pacing import Kind, RetryPolicy, Ticket
from alphapo_async.core.row import Row, learn
from alphapo_async.core.signer import Signer
from alphapo_async.core.telling import Told, tell
from alphapo_async.flight import Crew, Flight, World
from alphapo_async.journal import Journal, open_journal
from alphapo_async.session import SessionManager

__all__ = ["AlphapoClient"]
