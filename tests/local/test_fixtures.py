"""The session's servers are real: what is written to them is read back."""

import psycopg
from kafka import KafkaConsumer, KafkaProducer

from prm_es.settings import Settings


def test_a_record_goes_through_the_broker(migrated: Settings) -> None:
    producer = KafkaProducer(**migrated.kafka_client)
    for number in range(100):
        producer.send(migrated.results_topic, str(number).encode(), key=b"k")
    producer.close()
    consumer = KafkaConsumer(
        migrated.results_topic, **migrated.kafka_client, auto_offset_reset="earliest", consumer_timeout_ms=2000
    )
    assert [int(record.value) for record in consumer] == list(range(100))
    consumer.close()


def test_the_database_is_utf8_durable_and_sorted_by_code_point(settings: Settings) -> None:
    with psycopg.connect(settings.postgres) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SELECT lower('ÄÉ'), 'Z' < 'a'").fetchone() == ("äé", True)
