"""pika (Debian python3-pika) against the broker at AMQP_URL."""

import os

import pika

COUNT = 10
QUEUE = f"smoke-pika-{os.getpid()}"
EXCHANGE = QUEUE + "-exchange"


def declare(channel):
    channel.exchange_declare(EXCHANGE, "direct", durable=True)
    declared = channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    assert declared.method.message_count == 0
    channel.queue_bind(QUEUE, EXCHANGE, "key")


def publish(channel):
    channel.confirm_delivery()
    for i in range(COUNT):
        # Raises when the broker nacks or returns.
        channel.basic_publish(
            EXCHANGE, "key", f"message {i}".encode(),
            pika.BasicProperties(delivery_mode=2, headers={"number": i}, correlation_id=str(i)),
            mandatory=True)


def get(channel):
    method, properties, body = channel.basic_get(QUEUE)
    assert body == b"message 0" and method.message_count == COUNT - 1, (body, method)
    assert properties.headers["number"] == 0 and properties.correlation_id == "0", properties
    channel.basic_ack(method.delivery_tag)


def consume_and_nack(channel):
    """Messages 1 to 9: the first is requeued once, the second dropped."""
    channel.basic_qos(prefetch_count=3)
    seen = []
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=20):
        assert method is not None, f"no message within 20 s after {seen}"
        seen.append(body)
        if body == b"message 1" and not method.redelivered:
            channel.basic_nack(method.delivery_tag, requeue=True)
        elif body == b"message 2":
            channel.basic_nack(method.delivery_tag, requeue=False)
        else:
            channel.basic_ack(method.delivery_tag)
        if len(seen) == COUNT:
            break
    channel.cancel()
    assert seen.count(b"message 1") == 2, seen


def returned(channel):
    try:
        channel.basic_publish(EXCHANGE, "nowhere", b"lost", mandatory=True)
    except pika.exceptions.UnroutableError as error:
        message = error.messages[0]
        assert message.method.reply_code == 312 and message.method.reply_text == "NO_ROUTE", message.method
        assert message.body == b"lost"
    else:
        raise AssertionError("an unroutable mandatory message was not returned")


def errors(connection):
    channel = connection.channel()
    try:
        channel.queue_declare(QUEUE + "-missing", passive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404, error
        assert error.reply_text == f"NOT_FOUND - no queue '{QUEUE}-missing' in vhost '/'", error.reply_text
    else:
        raise AssertionError("a missing queue was found")


def main():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    declare(channel)
    publish(channel)
    get(channel)
    consume_and_nack(channel)
    returned(channel)
    errors(connection)
    assert channel.basic_get(QUEUE) == (None, None, None)
    assert channel.queue_delete(QUEUE).method.message_count == 0
    channel.exchange_delete(EXCHANGE)
    connection.close()
    print("pika", pika.__version__)


if __name__ == "__main__":
    main()
