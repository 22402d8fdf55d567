"""The projector: events topics through Faust into read models.

The set-up is the one that was shown to lose nothing: `noack_take`, the transaction in a thread, `ack()` after the
commit, a crashing supervisor, concurrency 1, no Faust tables. Any other ends with lost messages.
"""

import mode.loop

mode.loop.use("uvloop")  # before faust is imported; a quarter less CPU a message

import asyncio  # noqa: E402
import os  # noqa: E402
from collections.abc import AsyncIterator, Coroutine, Generator, Sequence  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from ssl import create_default_context  # noqa: E402
from tempfile import gettempdir  # noqa: E402
from threading import Event as StopEvent  # noqa: E402
from threading import Timer  # noqa: E402
from time import time_ns  # noqa: E402
from typing import Any, Final, NoReturn  # noqa: E402

import faust  # noqa: E402
import structlog  # noqa: E402
from faust.transport.drivers import aiokafka as driver  # noqa: E402
from kafka import KafkaConsumer, TopicPartition  # noqa: E402
from kafka.errors import KafkaError  # noqa: E402
from kafka.structs import OffsetAndMetadata  # noqa: E402
from mode import CrashingSupervisor  # noqa: E402

from prm_es import metrics, tracing  # noqa: E402
from prm_es.consumers.runtime import UNAVAILABLE  # noqa: E402
from prm_es.consumers.tails import REPAIR, verify  # noqa: E402
from prm_es.errors import ForeignHistory, PrmError, Unavailable  # noqa: E402
from prm_es.liveness import LIVE  # noqa: E402
from prm_es.messages import read_event  # noqa: E402
from prm_es.projections.base import ReadModel  # noqa: E402
from prm_es.projections.runner import CHUNK, Item, Place, Projector  # noqa: E402
from prm_es.settings import PARTITIONS, SESSION_S, Settings  # noqa: E402

log = structlog.get_logger()

BATCH: Final = 100  # bundles
BUNDLE: Final = 20  # records
WITHIN_S: Final = 0.05
IDLE_CHECK_S: Final = 2.0
METADATA_S: Final = 3.0  # a broker that starts knows of no topics yet: whoever shares out partitions gives none away
STOP_S: Final = 5.0
END_S: Final = 10.0  # below a supervisor's patience


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's close may end as cancelled while the broker is away.

    The thread would then die without a word, Faust wait a minute for it, and the process neither work nor end.
    """

    shutdown_timeout = STOP_S

    async def on_thread_stop(self) -> None:
        with suppress(asyncio.CancelledError):
            await super().on_thread_stop()


class _Begun:
    """A coroutine that has begun: waits for the future that it waits for, then goes on with it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: object) -> None:
        self._coroutine, self._waits_for = coroutine, waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            yield self._waits_for
        except BaseException:
            self._coroutine.close()
            raise
        return (yield from self._coroutine.__await__())


class _Consumer(driver.Consumer):
    """Gives Faust the messages of a partition in bundles, and mends how it counts gaps.

    Most of Faust's time goes into handing on one message: it gets the last of a bundle, which carries the others. An
    offset left out counts as done only once a later one was acknowledged, and what was fetched is acknowledged in
    order: so a bundle's offsets are committed with its last one.
    """

    async def getmany(self, timeout: float) -> AsyncIterator[Any]:  # noqa: ASYNC109
        fetched: dict[Any, list[Any]] = {}
        async for place, message in super().getmany(timeout):
            fetched.setdefault(place, []).append(message)
        for place, messages in fetched.items():
            for start in range(0, len(messages), BUNDLE):
                bundle = messages[start : start + BUNDLE]
                last = bundle[-1]
                if not self.flow_active or last.generation_id != self.app.consumer_generation_id:
                    return  # the partitions are being shared out anew: they are fetched again from what is committed
                if self._read_offset[place] == 0:  # which Faust takes for none, and would wait for the next for ever
                    await self._add_gap(place, 1, last.offset)
                last.bundle = bundle
                yield place, last

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:  # noqa: ANN401
        """Leave out the end: Faust counts the record after a transaction marker as part of the gap, and stalls."""
        await super()._add_gap(tp, offset_from, offset_to - 1)

    async def wait_first(self, *waited: Any, **named: Any) -> Any:  # noqa: ANN401
        """Do as mode, but start none of its four tasks for a message that the buffer takes at once, as nearly all."""
        message = waited[0]
        if isinstance(message, Coroutine):  # only Faust's loop over messages waits for one
            try:
                waits_for = message.send(None)
            except StopIteration:
                waited[1].close()
                return None
            waited = (_Begun(message, waits_for), *waited[1:])
        return await super().wait_first(*waited, **named)

    def _new_consumer_thread(self) -> Any:  # noqa: ANN401
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


driver.Transport.Consumer = _Consumer


def group(settings: Settings, models: Sequence[ReadModel]) -> str:
    """Name the consumer group of a process that hosts these read models."""
    return f"{settings.prefix}.projector." + "+".join(f"{model.name}-v{model.version}" for model in models)


def work(settings: Settings, models: Sequence[ReadModel], stop: StopEvent) -> None:
    """Catch up from the store, then follow the topics until a signal stops the process.

    Raises Unavailable (TooOld, ForeignHistory, …), and psycopg2 errors while catching up; later any other failure ends
    the process with code 1. Nothing that was not committed is acknowledged.
    """
    topics = _topics(settings, models)
    verify(settings, topics)
    projectors = [Projector(settings, model) for model in models]
    if any(_far_behind(projector) for projector in projectors):
        _catch_up(settings, models, projectors, topics, stop)
    if stop.is_set():
        return
    _follow(settings, models, projectors, topics)


def _topics(settings: Settings, models: Sequence[ReadModel]) -> list[str]:
    return sorted({settings.event_topic(aggregate) for model in models for aggregate in model.aggregates})


def _far_behind(projector: Projector) -> bool:
    after = projector.behind()
    return after >= 0 and projector.head() - after > CHUNK


def _catch_up(
    settings: Settings,
    models: Sequence[ReadModel],
    projectors: Sequence[Projector],
    topics: Sequence[str],
    stop: StopEvent,
) -> None:
    """Read a large backlog from the store in bulk, many times faster than through Faust, and move the group along."""
    ends = _ends(settings, topics)
    for model, projector in zip(models, projectors, strict=True):
        start = after = projector.behind()
        while not stop.is_set() and (reached := projector.catch_up(after)) > after:
            after = reached
            LIVE.progressed(f"catching up {model.name}")
        log.info("projector.caught_up", model=model.name, start=start, position=after)
    if not stop.is_set():
        _move_group(settings, models, ends)


def _ends(settings: Settings, topics: Sequence[str]) -> dict[Any, int]:
    consumer: Any = KafkaConsumer(**settings.kafka_client, group_id=None)
    try:
        return dict(consumer.end_offsets([TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)]))
    finally:
        consumer.close()


def _move_group(settings: Settings, models: Sequence[ReadModel], ends: dict[Any, int]) -> None:
    """Commit offsets that the rows already contain; refused while others of the group are there, which is fine."""
    consumer: Any = KafkaConsumer(**settings.kafka_client, group_id=group(settings, models), enable_auto_commit=False)
    try:
        consumer.assign(list(ends))
        consumer.commit({partition: OffsetAndMetadata(offset, "", -1) for partition, offset in ends.items()})
    except KafkaError as error:
        log.info("projector.group_not_moved", reason=type(error).__name__)
    finally:
        consumer.close()


def _follow(
    settings: Settings, models: Sequence[ReadModel], projectors: Sequence[Projector], topics: Sequence[str]
) -> NoReturn:
    hosted = _Hosted(settings, models, projectors)
    app = _app(settings, models)

    async def project(stream: Any) -> None:  # noqa: ANN401
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            messages = [message for event in events for message in event.message.bundle]
            await hosted.in_thread("applying a batch", hosted.apply, messages)
            for event in events:
                event.ack()

    async def look_for_missing_tails() -> None:
        places = {(tp.topic, tp.partition) for tp in app.consumer.assignment()}
        await hosted.in_thread("looking for missing tails", hosted.fill, places)

    topic = app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    app.agent(topic, concurrency=1, supervisor_strategy=CrashingSupervisor)(project)
    app.timer(interval=IDLE_CHECK_S)(look_for_missing_tails)
    worker = _Worker(app, quiet=True, redirect_stdouts=False, override_logging=False)
    log.info("projector.active", models=[model.name for model in models])
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if isinstance(worker.crash_reason, PrmError):  # whoever runs this says it in one sentence
            raise worker.crash_reason from None
        raise


class _Worker(faust.Worker):
    """Ends within seconds, whatever hangs: Faust may wait for ever for a commit of a group that it is no member of.

    Nothing that counts is done on the way out; the next process goes on from the checkpoints.
    """

    async def stop(self) -> None:
        end = Timer(END_S, _end)
        end.daemon = True
        end.start()
        await super().stop()


def _end() -> None:
    log.error("projector.stuck", reason=f"it did not end within {END_S:.0f} s")
    os._exit(UNAVAILABLE)


class _Hosted:
    """The read models of this process; the database is touched by one thread alone."""

    def __init__(self, settings: Settings, models: Sequence[ReadModel], projectors: Sequence[Projector]) -> None:
        self._models, self._projectors = models, projectors
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._store_id = projectors[0].store_id()
        self._aggregates = [{settings.event_topic(name) for name in model.aggregates} for model in models]
        self._topic_ids = self._ask_topic_ids()

    async def in_thread(self, doing: str, function: Any, *arguments: object) -> None:  # noqa: ANN401
        def work() -> None:
            LIVE.doing(doing)
            function(*arguments)
            LIVE.progressed("waiting for events")

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def apply(self, messages: Sequence[Any]) -> None:
        items = [self._item(message) for message in messages]
        for model, projector, topics in zip(self._models, self._projectors, self._aggregates, strict=True):
            if own := [item for item in items if item.place[0] in topics]:
                began = time_ns()
                with metrics.work(model.name).batch(len(own)):
                    projector.apply(own)
                tracing.projected(model.name, [item.event for item in own], began)

    def fill(self, places: set[Place]) -> None:
        """Fill what was published but never seen: a missing tail shows no hole.

        Raises Unavailable if a topic was made anew: a consumer that was there stays without partitions for ever.
        """
        known, self._topic_ids = self._topic_ids, self._ask_topic_ids()
        if anew := sorted(name for name, now in self._topic_ids.items() if known.get(name, now) != now):
            raise Unavailable(f"{', '.join(anew)} was deleted and made anew")
        for model, projector in zip(self._models, self._projectors, strict=True):
            after = projector.settled_behind(places)
            if after < 0:
                continue
            log.warning("projector.tail_filled", model=model.name, after=after)
            upto = projector.head()
            while after < upto:
                after = projector.catch_up(after)
                LIVE.progressed(f"filling the tail of {model.name}")

    def _ask_topic_ids(self) -> dict[str, str]:
        return {name: one for projector in self._projectors for name, one in projector.topic_ids().items()}

    def _item(self, message: Any) -> Item:  # noqa: ANN401
        try:
            published = read_event(message.headers, message.value)
        except (KeyError, ValueError) as error:
            place = f"topic {message.topic} partition {message.partition} offset {message.offset}"
            raise ForeignHistory(f"{place} holds a record that no publisher wrote: {REPAIR}") from error
        if published.store_id != self._store_id:
            raise ForeignHistory(
                f"topic {message.topic} partition {message.partition} holds events of store {published.store_id},"
                f" this is {self._store_id}: {REPAIR}"
            )
        return Item((message.topic, message.partition), published.event, published.previous)


def _app(settings: Settings, models: Sequence[ReadModel]) -> Any:  # noqa: ANN401
    return faust.App(
        group(settings, models),
        broker=[f"kafka://{address}" for address in settings.bootstrap],
        broker_credentials=_credentials(settings),
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=int(1000 * METADATA_S),
        broker_commit_interval=1.0,
        broker_session_timeout=float(SESSION_S),
        broker_heartbeat_interval=1.0,
        stream_wait_empty=False,
        stream_buffer_maxsize=2 * BATCH,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        store="memory://",
        datadir=str(Path(gettempdir()) / f"{settings.prefix}-faust"),  # made at start, never used without tables
        worker_redirect_stdouts=False,
    )


def _credentials(settings: Settings) -> Any:  # noqa: ANN401
    context = None
    if settings.kafka_security_protocol.endswith("SSL"):
        context = create_default_context(cafile=settings.kafka_ssl_cafile)
        if settings.kafka_ssl_certfile:
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    if settings.kafka_security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password,
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
