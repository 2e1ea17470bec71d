"""celery and kombu (Debian python3-celery) against the broker at AMQP_URL.

Run without arguments it starts a worker from this same file, calls tasks on
it and stops it; then it does with kombu what a task queue doesn't: nack, get
and returns.
"""

import os
import signal
import subprocess
import sys
import time

import celery
import kombu

NAME = os.environ.setdefault("SMOKE_NAME", f"smoke-celery-{os.getpid()}")

app = celery.Celery("celery_client", broker=os.environ["AMQP_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=NAME,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task
def add(a, b):
    return a + b


@app.task(bind=True, max_retries=3)
def fails_once(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return self.request.retries


def tasks():
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_client", "worker", "--pool", "solo",
         "--loglevel", "WARNING", "--hostname", NAME + "@localhost"],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    try:
        results = [add.delay(i, i) for i in range(20)]
        assert [result.get(timeout=60) for result in results] == [2 * i for i in range(20)]
        assert fails_once.delay().get(timeout=30) == 1
        # Remote control goes through fanout exchanges and reply queues.
        answers = app.control.ping(timeout=5)
        assert any(NAME in name for answer in answers for name in answer), answers
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=30)


def primitives():
    with kombu.Connection(os.environ["AMQP_URL"], transport_options={"confirm_publish": True}) as connection:
        channel = connection.channel()
        exchange = kombu.Exchange(NAME + "-exchange", "direct", channel=channel)
        queue = kombu.Queue(NAME + "-queue", exchange, "key", channel=channel,
                            queue_arguments={"x-queue-type": "quorum"})
        queue.declare()
        producer = kombu.Producer(channel, exchange)
        producer.publish({"number": 0}, routing_key="key", delivery_mode=2)
        # Get, nack with and without requeue.
        first = queue.get()
        assert first.payload == {"number": 0}
        first.requeue()
        again = get(queue)
        assert again.payload == {"number": 0} and again.delivery_info["redelivered"], again.delivery_info
        again.reject()
        for i in range(1, 3):
            producer.publish({"number": i}, routing_key="key", delivery_mode=2)
        consume(connection, channel, queue)
        returns(connection, channel, producer)
        assert queue.get() is None
        queue.delete()
        exchange.delete()
        kombu.Queue(NAME, channel=channel).delete()


def get(queue):
    """A get may overtake the requeue before it: RabbitMQ's quorum queues do that."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        message = queue.get()
        if message is not None:
            return message
    raise AssertionError("a requeued message did not come back")


def consume(connection, channel, queue):
    seen = []

    def received(body, message):
        seen.append(body["number"])
        message.ack()

    with kombu.Consumer(channel, [queue], callbacks=[received], prefetch_count=1):
        while len(seen) < 2:
            connection.drain_events(timeout=20)
    assert seen == [1, 2], seen


def returns(connection, channel, producer):
    returned = []
    channel.events["basic_return"].add(lambda error, exchange, key, message: returned.append((error.reply_code, key, message.body)))
    producer.publish("lost", routing_key="nowhere", mandatory=True)
    deadline = time.monotonic() + 10
    while not returned and time.monotonic() < deadline:
        connection.drain_events(timeout=10)
    assert [(code, key) for code, key, _ in returned] == [(312, "nowhere")], returned


if __name__ == "__main__":
    tasks()
    primitives()
    print("celery", celery.__version__, "kombu", kombu.__version__)
