"""Calls: every caller with every callee, and what the protocols say about errors, progress, cancelling and leaving."""
import asyncio
import contextlib

from .bodies import Mqtt, Wamp, difference, to_wamp
from .events import slug
from .peers import Failure, Invocation, decoded, expect, shown, within
from .process import Refused
from .world import scenario

ERROR_URI = "com.example.error.not_today"
VALUE = {"t": 21.5, "unit": "°C"}


async def serve(peer, procedure, answer):
    """Hands every invocation to `answer`, for as long as it is not cancelled."""
    while True:
        try:
            invocation = await peer.invocation(procedure)
        except Failure:
            continue  # nobody called for a while
        await answer(invocation)


@contextlib.asynccontextmanager
async def background(*coroutines):
    """Runs these beside what is inside."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Callee:
    """A peer that serves one procedure; what each call wants is its first argument, whose it is the second."""

    def __init__(self, peer):
        self.peer, self.procedure = peer, f"serve/{slug(peer.kind)}"
        self.silent, self.tasks, self.mistakes = {}, [], []

    @contextlib.asynccontextmanager
    async def at_work(self):
        """Registers and answers, each invocation on its own, as one may be slow."""
        await self.peer.register(self.procedure)

        async def start(invocation):
            self.tasks.append(asyncio.create_task(self.handle(invocation)))

        async with background(serve(self.peer, self.procedure, start)):
            yield self

    async def handle(self, invocation: Invocation):
        """Does what the first argument says; what goes wrong here shows at the caller, and is kept to explain that."""
        try:
            await self.fulfil(invocation)
        except (Failure, Refused, IndexError, TypeError, ValueError) as error:
            self.mistakes.append(f"{type(error).__name__} {error} at {invocation.body}")

    async def fulfil(self, invocation):
        """Does what the first argument says."""
        body = decoded(invocation.body)
        wish, token = body.args[0], body.args[1]
        if wish == "silent":
            self.silent.setdefault(token, asyncio.get_running_loop().create_future()).set_result(invocation)
        elif wish == "error":
            await self.peer.fail(invocation, ERROR_URI, Wamp(["no", 3], {"why": token}))
        else:
            if wish == "progress":
                for number in (1, 2, 3):
                    await self.peer.progress(invocation, Wamp([token, number]))
            # The keywords come back as they came: a detour through both protocols.
            await self.peer.answer(invocation, Wamp([token, VALUE], body.kwargs))

    async def silenced(self, token):
        """The invocation that nobody answers."""
        invocation = self.silent.setdefault(token, asyncio.get_running_loop().create_future())
        return await within(invocation, f"the invocation of {token}")


async def check_result(caller, callee, token):
    """Arguments there, result back."""
    kwargs = {"k": [1, None, "ü"], "flag": True}
    call = await caller.call(callee.procedure, Wamp(["result", token], kwargs))
    outcome = await call.outcome()
    expect_outcome(caller, outcome, "result", Wamp([token, VALUE], kwargs))


async def check_error(caller, callee, token):
    """The callee's error with its URI and arguments."""
    call = await caller.call(callee.procedure, Wamp(["error", token], {"n": 1}), expected="error")
    outcome = await call.outcome()
    expect_outcome(caller, outcome, "error", Wamp(["no", 3], {"why": token}))
    # A callee before MQTT 5 cannot name its error.
    wanted = ERROR_URI if callee.peer.kind.is_wamp or callee.peer.kind.is_v5 else "wamp.error.runtime_error"
    expect(outcome.uri == wanted, f"the error's URI is {outcome.uri}, not {wanted}")


async def check_progress(caller, callee, token):
    """Three progressive results in order, then the final one."""
    call = await caller.call(callee.procedure, Wamp(["progress", token], {"n": 1}), progress=True)
    for number in (1, 2, 3):
        expect_outcome(caller, await call.outcome(), "progress", Wamp([token, number]))
    expect_outcome(caller, await call.outcome(), "result", Wamp([token, VALUE], {"n": 1}))


async def check_timeout(caller, callee, token):
    """The router ends a call that takes too long, and tells a callee that can hear it."""
    call = await caller.call(callee.procedure, Wamp(["silent", token], {"n": 1}), timeout_ms=250, expected="error")
    outcome = await call.outcome()
    expect((outcome.kind, outcome.uri) == ("error", "wamp.error.timeout"), f"after the timeout came {outcome}")
    if callee.peer.kind.can("hear interrupts"):
        await callee.peer.interrupted(await callee.silenced(token))


# How each library cancels: with a mode where it lets one choose, and with `kill` where it hides the answer otherwise.
CANCEL_MODES = {"node_autobahn": "kill", "node_wampy": "killnowait", "python_autobahn": None}


async def check_cancel(caller, callee, token):
    """The caller gives up: it is told so, and so is a callee that can hear it."""
    call = await caller.call(callee.procedure, Wamp(["silent", token], {"n": 1}))
    invocation = await callee.silenced(token)
    mode = CANCEL_MODES[caller.kind.driver]
    await caller.cancel(call, mode)
    if callee.peer.kind.can("hear interrupts"):
        await callee.peer.interrupted(invocation)
        if mode == "kill" and not callee.peer.kind.is_wamp:
            await callee.peer.fail(invocation, "wamp.error.canceled", Wamp())
    outcome = await call.outcome()
    expect(outcome.kind == "error", f"after the cancel came {outcome}")
    if caller.kind.can("choose a cancel mode"):
        # A callee before MQTT 5 cannot name its error.
        mute = mode == "kill" and not (callee.peer.kind.is_wamp or callee.peer.kind.is_v5)
        wanted = ("wamp.error.runtime_error",) if mute else ("wamp.error.canceled",)
        expect(outcome.uri in wanted, f"the canceled call ended with {outcome.uri}")


def expect_outcome(caller, outcome, kind, sent):
    """Fails unless this outcome came, with the arguments `sent` as the caller's protocol shows them."""
    expect(outcome.kind == kind, f"expected a {kind}, came {outcome}")
    received = outcome.body
    if caller.kind.is_wamp:
        wrong = difference(sent, received)
    else:
        # An MQTT callee may write one argument and keywords as it likes; what counts is what they mean.
        wrong = difference(sent, to_wamp(received)) and difference(shown(sent, caller.kind), received)
    expect(wrong is None, f"{kind}: {wrong}")


CHECKS = [
    ("result", "MAPPING.md, Calls; WAMP.md: args and kwargs exactly preserved", check_result, ()),
    ("error", "MAPPING.md, Calls: corsac-error; WAMP.md: callee's ERROR uri, args, kwargs", check_error, ()),
    ("progressive results", "MAPPING.md, Calls; WAMP.md: progressive_call_results", check_progress, ("ask for progress",)),
    ("timeout", "WAMP.md: call_timeout in ms; MAPPING.md, Calls: $cancel", check_timeout, ("set a timeout",)),
    ("cancel", "WAMP.md: call_canceling; MAPPING.md, Calls: $cancel", check_cancel, ("cancel",)),
]


def call_matrix(title, clause, check, needs):
    """A grid of all callers (that can do what the check needs) and all callees."""
    @scenario(f"every caller with every callee: {title}", clause, grid=True)
    async def run(world, record):
        callers = [kind for kind in world.kinds if kind.can(*needs)]
        callees = [kind for kind in world.kinds if kind.can("serve")]
        async with world.peers(*callers) as calling, world.peers(*callees) as serving, contextlib.AsyncExitStack() as stack:
            callees = [await stack.enter_async_context(Callee(peer).at_work()) for peer in serving]
            gate = asyncio.Semaphore(24)

            async def pair(caller, callee):
                async with gate:
                    token = f"{title} {caller.kind.name} {callee.peer.kind.name}"
                    try:
                        await check(caller, callee, token)
                        error = None
                    except (Failure, Refused) as failure:
                        error = str(failure)
                        if callee.mistakes:
                            error += f"; the callee: {callee.mistakes[-1]}"
                    record(caller.kind.name, callee.peer.kind.name, error)

            await asyncio.gather(*(pair(caller, callee) for callee in callees for caller in calling))


for each in CHECKS:
    call_matrix(*each)


@scenario("a call of what nobody serves", "WAMP.md: no_such_procedure; MAPPING.md, Calls: corsac-error", lambda kind: True)
async def no_such_procedure(world, kind):
    async with world.peer(kind) as caller:
        call = await caller.call("nobody/serves/this", Wamp([1], {"k": 1}), expected="error")
        outcome = await call.outcome()
        expect(outcome.kind == "error", f"the answer was {outcome}")
        expect(outcome.uri == "wamp.error.no_such_procedure", f"the error's URI is {outcome.uri}")


@scenario("a procedure is served once, and is free again after unregistering", "WAMP.md: procedure_already_exists; MAPPING.md, Calls: serving",
          lambda kind: kind.can("serve"))
async def registered_once(world, kind):
    procedure = f"once/{slug(kind)}"
    async with world.peers(kind, kind) as (first, second):
        await first.register(procedure)
        try:
            await second.register(procedure)
        except Refused as refused:
            wanted = "wamp.error.procedure_already_exists"
            expect(not kind.is_wamp or refused.uri == wanted, f"the refusal names {refused.uri}: {refused}")
            expect(kind.is_wamp or kind.is_v5 or refused.code == 0x80, f"the refusal has the code {refused.code}: {refused}")
        else:
            raise Failure("the second registration was accepted")
        await first.unregister(procedure)
        await second.register(procedure)


@scenario("the callee leaves: the caller is told at once", "WAMP.md, Basic: callee leaves", lambda kind: kind.can("serve"),
          needs=("py-json",))
async def callee_leaves(world, kind):
    procedure = f"leaves/{slug(kind)}"
    async with world.peer("py-json") as caller, world.line(kind) as line:
        async with world.peer(kind, line=line) as callee:
            await callee.register(procedure)
            call = await caller.call(procedure, Wamp([1], {"k": 1}), expected="error")
            await callee.invocation(procedure)
            line.cut()
            outcome = await call.outcome()
            expect(outcome.kind == "error", f"the caller got {outcome}")
            known = ("wamp.error.canceled", "wamp.error.no_such_procedure")
            expect(outcome.uri in known, f"the error's URI is {outcome.uri}")
        again = await (await caller.call(procedure, Wamp([1], {"k": 1}), expected="error")).outcome()
        expect(again.kind == "error", f"the next caller got {again}")


@scenario("the caller leaves: the callee is told", "WAMP.md, Basic: caller leaves", lambda kind: kind.driver != "mosquitto",
          needs=("py-json", "paho-5"))
async def caller_leaves(world, kind):
    procedure = f"left/{slug(kind)}"
    for callee_kind in ("py-json", "paho-5"):
        async with world.peer(callee_kind) as callee, world.line(kind) as line:
            async with world.peer(kind, line=line) as caller:
                await callee.register(procedure)
                await caller.call(procedure, Wamp([1], {"k": 1}))
                invocation = await callee.invocation(procedure)
                line.cut()
                await callee.interrupted(invocation)


@scenario("shared registrations take turns", "WAMP.md: shared_registration; MAPPING.md, Calls: $share", lambda kind: kind.can("serve"))
async def shared_registration(world, kind):
    procedure = f"turns/{slug(kind)}"
    async with world.peers(kind, kind, kind) as (one, two, caller):
        for member in (one, two):
            if kind.is_wamp:
                await member.register(procedure, invoke="roundrobin")
            else:
                await member.subscribe("$share/group/" + member.callee_filter(procedure))
        served = []

        def answer(member):
            async def one(invocation):
                served.append(member.name)
                await member.answer(invocation, Wamp([member.name]))
            return one

        async with background(*(serve(member, procedure, answer(member)) for member in (one, two))):
            for _ in range(6):
                outcome = await (await caller.call(procedure, Wamp([1], {"k": 1}))).outcome()
                expect(outcome.kind == "result", f"the caller got {outcome}")
        expect(served.count(one.name) == 3 and served.count(two.name) == 3, f"six calls were served by {served}")


@scenario("registration by pattern: exact before longest prefix before wildcard", "WAMP.md: pattern_based_registration",
          lambda kind: kind.is_wamp)
async def registration_patterns(world, kind):
    root = f"pattern_{slug(kind).replace('-', '_')}"
    rows = [(f"{root}.a", "prefix"), (f"{root}.a.b", "prefix"), (f"{root}..c", "wildcard"), (f"{root}.a.b.c", "exact")]
    wanted = {f"{root}/a/b/c": 3, f"{root}/a/b/x": 1, f"{root}/a/x": 0, f"{root}/z/c": 2}
    async with world.peers(kind, kind) as (callee, caller):
        for tag, (pattern, match) in enumerate(rows):
            await callee.request("register", tag=str(tag), procedure=pattern, match=match)

        def answer(tag):
            async def one(invocation):
                await callee.answer(invocation, Wamp([tag, invocation.raw["procedure"]]))
            return one

        async with background(*(serve(callee, str(tag), answer(tag)) for tag in range(len(rows)))):
            for procedure, tag in wanted.items():
                outcome = await (await caller.call(procedure, Wamp([1]))).outcome()
                dotted = procedure.replace("/", ".")
                names = (dotted,) if tag != 3 else (dotted, None)
                expect(outcome.kind == "result" and outcome.body.args[0] == tag and outcome.body.args[1] in names,
                       f"{dotted}: expected {rows[tag]}, came {outcome}")


@scenario("an answer from another session is none", "LIMITS.md: YIELD of somebody else's invocation", lambda kind: kind.driver == "mosquitto",
          needs=("py-json",))
async def foreign_answer(world, kind):
    procedure = f"foreign/{slug(kind)}"
    async with world.peers("py-json", kind, kind) as (caller, callee, intruder):
        await callee.subscribe(callee.callee_filter(procedure))
        call = await caller.call(procedure, Wamp([1], {"k": 1}), timeout_ms=600)
        invocation = await callee.invocation(procedure)
        with contextlib.suppress(Refused):
            await intruder.answer(invocation, Mqtt(b'"stolen"'))
        outcome = await call.outcome()
        expect((outcome.kind, outcome.uri) == ("error", "wamp.error.timeout"), f"the caller got {outcome}")


@scenario("the caller is shown where it asks for it", "WAMP.md: caller_identification",
          lambda kind: kind.driver in ("node_autobahn", "node_wampy"), needs=("py-json",))
async def caller_shown(world, kind):
    procedure = f"shown/{slug(kind)}"
    async with world.peers("py-json", kind) as (callee, caller):
        await callee.register(procedure)
        for asked, wanted in ((False, None), (True, caller.session)):
            call = await caller.call(procedure, Wamp([1]), **({"disclose_me": True} if asked else {}))
            invocation = await callee.invocation(procedure)
            expect(invocation.raw["caller"] == wanted, f"with disclose_me {asked} INVOCATION says {invocation.raw['caller']}")
            await callee.answer(invocation, Wamp([2]))
            await call.outcome()


@scenario("a response topic under $reply/ is the caller's alone, any other is public", "MAPPING.md, Calls: calling, MQTT 5",
          lambda kind: kind.is_v5 and kind.driver != "mosquitto", needs=("py-json",))
async def response_topics(world, kind):
    procedure = f"reply/{slug(kind)}"
    async with world.peers("py-json", kind, kind) as (callee, caller, other):
        async def answer(invocation):
            await callee.answer(invocation, Wamp(["done"]))

        await callee.register(procedure)
        await other.subscribe("$reply/#")
        await other.subscribe(f"public/{slug(kind)}")
        await caller.subscribe("$reply/#")
        async with background(serve(callee, procedure, answer)):
            for topic, hearer in ((f"$reply/{slug(kind)}", caller), (f"public/{slug(kind)}", other)):
                properties = {"response_topic": topic, "correlation": b"c"}
                await caller.publish(f"$call/{procedure}", Mqtt(b"1"), properties=properties)
                event = await hearer.event(topic)
                user = dict(event.raw["properties"]["user"])
                expect(event.body.payload == b"done" and user.get("corsac-status") == "result", f"the answer was {event.raw}")
        expect(not other.events(), f"another session got {other.events()}")
