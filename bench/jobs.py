"""What is run: an orchestration in a few shapes, with plain and with async activities, and the result that each must come to."""

from dataclasses import dataclass

from perdure import App, OrchestrationContext, when_all

app = App()


@app.activity
def hello(name: str) -> str:
    return f"hello {name}"


@app.activity
async def hello_async(name: str) -> str:
    return f"hello {name}"


@app.orchestration
async def sequence(ctx: OrchestrationContext, length: int) -> list[str]:
    return [await ctx.call_activity(hello, f"w{i}") for i in range(length)]


@app.orchestration
async def sequence_async(ctx: OrchestrationContext, length: int) -> list[str]:
    return [await ctx.call_activity(hello_async, f"w{i}") for i in range(length)]


@app.orchestration
async def fan_out(ctx: OrchestrationContext, width: int) -> list[str]:
    return await when_all([ctx.call_activity(hello, f"w{i}") for i in range(width)])


@app.orchestration
async def fan_out_async(ctx: OrchestrationContext, width: int) -> list[str]:
    return await when_all([ctx.call_activity(hello_async, f"w{i}") for i in range(width)])


@dataclass(frozen=True, slots=True)
class Job:
    """One orchestration of `activities` activities; `kind` says which activities: plain functions or async ones."""

    name: str
    orchestration: str
    activities: int
    kind: str

    @property
    def expected(self) -> list[str]:
        return [f"hello w{i}" for i in range(self.activities)]


def hello_job(activities: int, kind: str) -> Job:
    return Job(f"hello{activities}", named("sequence", kind), activities, kind)


def sequence_job(activities: int, kind: str) -> Job:
    return Job(f"seq-{activities}", named("sequence", kind), activities, kind)


def fan_out_job(activities: int, kind: str) -> Job:
    return Job(f"fan-out-{activities}", named("fan_out", kind), activities, kind)


def named(orchestration: str, kind: str) -> str:
    return orchestration if kind == "plain" else f"{orchestration}_async"
